-- Notes that an attempt failed. The result stays where it is, and is taken again when its next attempt is due.
--   KEYS  1 the App's last outcome
--   ARGV  1 problem
--   returns 'ok'
-- A script because only scripts write.
--!include hook_outcome
note_outcome(KEYS[1], 'failed', ARGV[1])
return 'ok'
