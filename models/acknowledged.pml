/*
 * Acknowledgement, leases, epochs and failover on one primary with one replica. docs/model.md maps each step to its code.
 *
 * One tick is about a second. Every age counts the ticks since a moment, up to where it makes no difference. Nothing has to happen within a tick: a
 * process may stand still for as long as it likes. What a server does for one command is one step; a message is lost where a
 * step is not taken.
 *
 * Checked: a write that was answered `all`, and that the truth still has, is in every facts file that is called fresh (NO_STALE);
 * with DURABLE, it is in the truth after every failover (NO_LOSS). The truth is the server that the address leads to.
 *
 * Bounds: TICKS, WRITES (at most 2), and the faults FLUSHES, RESTARTS (with an older file), FAILOVERS, LEAVES. The macros that are
 * tested with #ifdef below put a wrong rule in the place of the right one: each must make spin find a violation.
 */

#ifndef WRITES
#define WRITES 1
#endif
#ifndef FLUSHES
#define FLUSHES 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef FAILOVERS
#define FAILOVERS 0
#endif
#ifndef LEAVES
#define LEAVES 0
#endif

/* A lease that was renewed less than TRUSTED ticks ago is trusted (LEASE_TRUSTED_MS). Facts count as fresh up to the age GRACE
   (FRESH_GRACE_MS). A lease (LEASE_TTL_MS) is longer than the greatest age at which facts are fresh, TRUSTED - 1 + GRACE. */
#ifndef TRUSTED
#define TRUSTED 1
#endif
#define GRACE 1
#ifdef LEASE_AS_SHORT_AS_FRESHNESS
#define LEASE (TRUSTED - 1 + GRACE)
#else
#define LEASE (TRUSTED + GRACE)
#endif
#define NOWHERE 2   /* no connection */

typedef Server {
  bit up; bit primary; bit following;   /* following: a replica whose link to the other server works */
  byte id;                              /* run_id:master_replid */
  byte epoch; byte seq; byte log[3];    /* log[seq] is the id of the write at seq */
  byte incarnation; byte markerId; bit settled;   /* the registry's marker */
  bit listed[2];                        /* the registry's entries; a beat is known by who has not seen it yet: */
  bit unseenByOther[2]; bit unseenByWriter[2]
}

typedef Node {
  byte on; byte linkId; byte reachedAge;          /* the connection; age of the last fresh one */
  byte renewedAge; byte renewedOn; byte incarnation;
  byte watched; byte watchedAge;                  /* an incarnation, and for how long */
  byte otherAge;                                  /* for how long the other node's beat has not moved */
  byte vouchedFor; bit mustReload;
  bit pursuing; byte askedAge; byte headSeq;      /* the heads that the server named last are not reached yet */
  byte epoch; byte seq; byte tip; bit has[3];     /* applied */
  byte stampAge
}

typedef Heard { byte id; byte incarnation; byte epoch; byte seq; byte age }

Server s[2];
Node n[2];
byte address = 0;
byte newestId = 1, newestIncarnation = 1, newestEpoch = 1;
byte flushes = 0, restarts = 0, failovers = 0, leaves = 0;

/* The writer: a process that writes, with its Acknowledger. */
byte writerAt = 0;
byte nextWrite = 1;
byte phase = 0;                 /* 0 to write, 1 written, 2 the list is read, 3 waiting */
byte wroteId, wroteEpoch, wroteSeq, wroteIncarnation;
bit certain, durable;
bit need[2];
bit deaf;                       /* its subscription is lost, and not made again yet */
Heard heard[2];
bit acknowledged[3];

#define other(x) (1 - x)
#ifdef BOTH_WATCH
#define watches(x) 1
#else
#define watches(x) (x == 1)     /* only node 1 settles the marker, and removes the dead */
#endif
#ifdef BOTH_IN_DETAIL
#define in_detail(x) 1
#else
#define in_detail(x) (x == 0)   /* node 1 renews, asks and applies in one step */
#endif
#define fresh(x) (n[x].stampAge <= GRACE)
#define in_truth(w) (s[address].log[1] == w || s[address].log[2] == w)
#define stale_verdict(x, w) (acknowledged[w] && in_truth(w) && fresh(x) && !n[x].has[w])

inline check_no_stale() {
  assert(!stale_verdict(0, 1) && !stale_verdict(1, 1) && !stale_verdict(0, 2) && !stale_verdict(1, 2))
}

inline check_no_loss() { assert((!acknowledged[1] || in_truth(1)) && (!acknowledged[2] || in_truth(2))) }

inline copy_data(to, from) { to.epoch = from.epoch; to.seq = from.seq; to.log[1] = from.log[1]; to.log[2] = from.log[2] }

inline cut_connections(x) {
  if :: n[0].on == x -> n[0].on = NOWHERE; n[0].linkId = 0 :: else fi;
  if :: n[1].on == x -> n[1].on = NOWHERE; n[1].linkId = 0 :: else fi;
  if :: writerAt == x -> writerAt = NOWHERE :: else fi
}

inline lose_link(x) { n[x].on = NOWHERE; n[x].linkId = 0 }

inline end_freshness(x) { n[x].stampAge = GRACE + 1; n[x].pursuing = 0; n[x].askedAge = 0; n[x].headSeq = 0 }

inline older(years, most) { years = (years < most -> years + 1 : most) }

/* Heartbeat.run, or the Positions that a renewal repeats: heard by a writer at the same server */
inline announce(x, at) {
  if
  :: at == writerAt && !deaf && n[x].linkId == n[x].vouchedFor ->
       heard[x].id = n[x].linkId; heard[x].incarnation = n[x].incarnation; heard[x].epoch = n[x].epoch; heard[x].seq = n[x].seq;
       heard[x].age = 0
#ifdef ANNOUNCED_BEFORE_COMMIT
       ; heard[x].seq = s[at].seq
#endif
  :: else
  fi
}

/* Replicator._stamp_if_reached */
inline stamp_if_reached(x) {
  if
  :: n[x].pursuing && n[x].seq >= n[x].headSeq ->
       n[x].stampAge = n[x].askedAge; n[x].pursuing = 0; n[x].askedAge = 0; n[x].headSeq = 0; check_no_stale()
  :: else
  fi
}

inline reset_marker(at) {
  newestIncarnation++; s[at].incarnation = newestIncarnation; s[at].markerId = s[at].id; s[at].settled = 0
}

/* lua/lease.lua, with what NodeAnnouncer.take_lease sends and takes in */
inline renew(x, at) {
  if
  :: s[at].markerId != s[at].id ->
#ifndef MARKER_WITHOUT_SERVER_ID
       s[at].listed[0] = 0; s[at].listed[1] = 0; reset_marker(at)
#else
       if :: s[at].incarnation == 0 -> reset_marker(at) :: else -> s[at].markerId = s[at].id fi
#endif
  :: else ->
       if
       :: n[x].renewedOn != 0 && n[x].renewedOn != s[at].id -> reset_marker(at)   /* the list was left unattended */
       :: else ->
            if
            :: n[x].watched == s[at].incarnation && n[x].watchedAge >= LEASE -> s[at].settled = 1
            :: else
            fi
       fi
  fi;
  if   /* an entry that was watched for a lease without a beat is removed; else BeatWatch.note */
  :: s[at].listed[other(x)] && !s[at].unseenByOther[other(x)] ->
       if :: n[x].otherAge >= LEASE -> s[at].listed[other(x)] = 0; n[x].otherAge = 0 :: else fi
  :: else -> n[x].otherAge = 0; s[at].unseenByOther[other(x)] = 0
  fi;
  s[at].listed[x] = 1; s[at].unseenByOther[x] = 1; s[at].unseenByWriter[x] = 1;
  if :: !watches(x) -> n[x].otherAge = 0 :: else fi;
  if
  :: n[x].watched != s[at].incarnation && watches(x) -> n[x].watched = s[at].incarnation; n[x].watchedAge = 0
  :: else
  fi;
  n[x].renewedAge = 0; n[x].renewedOn = s[at].id; n[x].incarnation = s[at].incarnation;
  if :: s[at].id != n[x].linkId -> lose_link(x) :: else -> announce(x, at) fi
}

#ifdef ANNOUNCED_WITHOUT_SERVER_ID
#define same_server(x) 1
#else
#define same_server(x) (heard[x].id == wroteId)
#endif
#define announced(x) (same_server(x) && heard[x].epoch == wroteEpoch && heard[x].seq >= wroteSeq)
#define replaced(x) (heard[x].id == wroteId && heard[x].incarnation != wroteIncarnation)

#ifdef KEEP_DEMOTED_CONNECTION
#define may_ask(x) 1
#else
#ifdef ADDRESS_NOT_CHECKED
#define may_ask(x) (n[x].renewedAge < TRUSTED && n[x].linkId == n[x].renewedOn)
#else
#define may_ask(x) (n[x].renewedAge < TRUSTED && n[x].reachedAge < TRUSTED && n[x].linkId == n[x].renewedOn)
#endif
#endif

/* Heartbeat.begin_read, changelog_checks.verify_history, Heartbeat.confirm_server, HeadsTarget.set */
inline ask(x, at) {
  n[x].pursuing = 0; n[x].askedAge = 0; n[x].headSeq = 0;
  if
#ifndef HISTORY_NOT_VERIFIED
  :: n[x].epoch != s[at].epoch || n[x].seq > s[at].seq || s[at].log[n[x].seq] != n[x].tip -> n[x].mustReload = 1
#endif
  :: else ->
       if :: n[x].vouchedFor != n[x].linkId -> n[x].vouchedFor = n[x].linkId; announce(x, at) :: else fi;
       n[x].pursuing = 1; n[x].headSeq = s[at].seq; stamp_if_reached(x)
  fi
}

/* Replicator._reload and _swap */
inline reload(x, at) {
  end_freshness(x); n[x].mustReload = 0;
  n[x].epoch = s[at].epoch; n[x].seq = s[at].seq; n[x].tip = s[at].log[s[at].seq];
  n[x].has[1] = (s[at].log[1] == 1 || s[at].log[2] == 1); n[x].has[2] = (s[at].log[1] == 2 || s[at].log[2] == 2);
  announce(x, at)
}

/* FactsFile.apply: each Change names the write before it */
inline apply(x, at) {
  if
#ifndef HISTORY_NOT_VERIFIED
  :: s[at].log[n[x].seq] != n[x].tip -> n[x].mustReload = 1
#endif
  :: else ->
       n[x].seq++; n[x].tip = s[at].log[n[x].seq]; n[x].has[n[x].tip] = 1; announce(x, at); stamp_if_reached(x)
  fi
}

#define is_behind(x) (n[x].seq < s[n[x].on].seq)
#define can_reach(x) (n[x].on != NOWHERE && s[n[x].on].up)

proctype Replicator(byte x) {
  byte at;
end:
  do
  :: atomic {   /* Client._open, as the check of the address makes a connection; then the renewal over it */
       (s[address].up && s[address].primary && (n[x].on != address || n[x].linkId != s[address].id || n[x].renewedAge > 0)) ->
       at = address; n[x].on = at; n[x].linkId = s[at].id; n[x].reachedAge = 0; renew(x, at);
       if
       :: !in_detail(x) ->
            ask(x, at);
            if :: n[x].mustReload -> reload(x, at); ask(x, at) :: else fi;
            do :: is_behind(x) -> apply(x, at) :: else -> break od
       :: else
       fi; at = 0
     }
#ifdef HEADS_BEFORE_LEASE
  :: atomic {
       (n[x].on == NOWHERE && n[x].renewedOn == 0) ->
       n[x].on = address; n[x].linkId = s[address].id; n[x].reachedAge = 0; ask(x, address)
     }
#endif
  :: atomic {   /* the address leads elsewhere by now: the renewal over the connection that is kept */
       (in_detail(x) && can_reach(x) && n[x].on != address && (n[x].renewedAge > 0 || n[x].renewedOn != s[n[x].on].id)) ->
       at = n[x].on;
       if
       :: s[at].primary -> renew(x, at)
#ifndef KEEP_DEMOTED_CONNECTION
       :: else -> lose_link(x)   /* READONLY */
#else
       :: else
#endif
       fi; at = 0
     }
  :: atomic {
       (in_detail(x) && can_reach(x) && !n[x].mustReload && may_ask(x)
         && (n[x].stampAge > 0 || n[x].seq != s[n[x].on].seq) && (!n[x].pursuing || n[x].askedAge > 0)) ->
       at = n[x].on; ask(x, at); at = 0
     }
  :: atomic { (in_detail(x) && can_reach(x) && n[x].mustReload) -> at = n[x].on; reload(x, at); at = 0 }
  :: atomic { (can_reach(x) && !n[x].mustReload && is_behind(x)) -> at = n[x].on; apply(x, at); at = 0 }
#if LEAVES > 0
  :: atomic {   /* Heartbeat.resign */
       (leaves < LEAVES && n[x].on != NOWHERE && s[n[x].on].up && s[n[x].on].primary && s[n[x].on].listed[x]) ->
       leaves++; n[x].renewedAge = TRUSTED;
#ifndef LEASE_GIVEN_UP_WHILE_FRESH
       end_freshness(x);
#endif
       s[n[x].on].listed[x] = 0; heard[x].age = LEASE; heard[x].id = 0
     }
#endif
  od
}

#ifdef LIVE_NODES_FROM_A_LOST_LIST
#define list_complete(at) 1
#else
#ifdef SETTLED_NOT_AWAITED
#define list_complete(at) (s[at].markerId == s[at].id)
#else
#ifdef MARKER_WITHOUT_SERVER_ID
#define list_complete(at) (s[at].settled)
#else
#define list_complete(at) (s[at].settled && s[at].markerId == s[at].id)
#endif
#endif
#endif

inline read_list(at) {
  wroteId = s[at].id; wroteIncarnation = s[at].incarnation; certain = list_complete(at);
  need[0] = s[at].listed[0]; need[1] = s[at].listed[1]
}

inline write(at) {
  s[at].seq++; s[at].log[s[at].seq] = nextWrite; wroteEpoch = s[at].epoch; wroteSeq = s[at].seq
}

inline next() {
  nextWrite++; phase = 0; wroteId = 0; wroteEpoch = 0; wroteSeq = 0; wroteIncarnation = 0; certain = 0; durable = 0;
  need[0] = 0; need[1] = 0
}

/* Acknowledger.wait, at its beginning */
inline wait_for(x) {
  need[x] = (need[x] || heard[x].age < LEASE) && !announced(x);
  if :: heard[x].age < LEASE && replaced(x) -> certain = 0 :: else fi
}

/* Acknowledger._settle for one node, after a look at the list: a beat that moved counts as heard, so a node that was not heard
   for a lease is not on the list, or its beat has not moved for a lease */
inline look_at(x, at) {
  if :: s[at].listed[x] && s[at].unseenByWriter[x] -> heard[x].age = 0; s[at].unseenByWriter[x] = 0 :: else fi;
  if :: need[x] && heard[x].age >= LEASE -> need[x] = 0 :: else fi
}

#ifdef WRITTEN_AFTER_FAILOVER
#define may_write (phase == 0 && nextWrite <= WRITES && failovers == FAILOVERS)
#else
#define may_write (phase == 0 && nextWrite <= WRITES)
#endif

proctype Writer() {
end:
  do
  :: atomic {   /* the check of the address, or the probe */
       (s[address].up && s[address].primary && writerAt != address) ->
       writerAt = address;
       if :: phase == 1 || phase == 2 -> next() :: else fi   /* the outcome is unknown */
     }
  :: atomic { (writerAt == NOWHERE && (phase == 1 || phase == 2)) -> next() }
  :: atomic { (may_write && writerAt != NOWHERE && s[writerAt].up && !s[writerAt].primary) -> writerAt = NOWHERE }
#ifdef LIST_READ_BEFORE_THE_WRITE
  :: atomic { (may_write && writerAt != NOWHERE && s[writerAt].up && s[writerAt].primary) ->
       read_list(writerAt); phase = 1 }
  :: atomic { (phase == 1 && writerAt != NOWHERE && s[writerAt].up && s[writerAt].primary) -> write(writerAt); phase = 2 }
#else
  :: atomic { (may_write && writerAt != NOWHERE && s[writerAt].up && s[writerAt].primary) ->
       write(writerAt); phase = 1 }
  :: atomic { (phase == 1 && writerAt != NOWHERE && s[writerAt].up) -> read_list(writerAt); phase = 2 }
#endif
  :: atomic { (deaf && writerAt != NOWHERE) -> deaf = 0; announce(0, n[0].on); announce(1, n[1].on) }   /* Acknowledger._ask_all */
  :: atomic { (phase == 2) -> phase = 3; wait_for(0); wait_for(1) }
  :: atomic { (phase == 3 && need[0] && announced(0)) -> need[0] = 0 }
  :: atomic { (phase == 3 && need[1] && announced(1)) -> need[1] = 0 }
  :: atomic { (phase == 3 && certain && (replaced(0) && heard[0].age == 0 || replaced(1) && heard[1].age == 0)) -> certain = 0 }
  :: atomic {   /* Acknowledger._looked_since */
       (phase == 3 && (need[0] || need[1]) && writerAt != NOWHERE && s[writerAt].up) ->
       if :: !list_complete(writerAt) || s[writerAt].incarnation != wroteIncarnation -> certain = 0 :: else fi;
       look_at(0, writerAt); look_at(1, writerAt)
     }
#ifdef DURABLE
  :: atomic {   /* Durable._round: a mark, and WAIT 1 behind it */
       (phase == 3 && !durable && writerAt != NOWHERE && s[writerAt].up && s[writerAt].primary
#ifndef DURABILITY_OF_ANY_SERVER
         && s[writerAt].id == wroteId
#endif
         && s[other(writerAt)].up && s[other(writerAt)].following && s[other(writerAt)].seq == s[writerAt].seq) -> durable = 1
     }
#else
#define durable 1
#endif
  :: atomic {   /* `all` */
       (phase == 3 && certain && !need[0] && !need[1] && durable) ->
       acknowledged[nextWrite] = 1; next(); check_no_stale()
#ifdef DURABLE
       ; check_no_loss()
#endif
     }
  :: atomic { (phase == 3) -> next() }   /* its time is over: `node` or `pending` */
  od
}

/* node 1 has its lease, and the marker is settled */
inline first_list() {
  s[0].incarnation = 1; s[0].markerId = 1; s[0].settled = 1;
  s[0].listed[0] = 0; s[0].listed[1] = 1; s[0].unseenByOther[1] = 1; s[0].unseenByWriter[1] = 1
}

proctype World() {
end:
  do
  :: atomic {
       true ->
       older(n[0].reachedAge, TRUSTED); older(n[0].renewedAge, TRUSTED); older(n[0].watchedAge, LEASE); older(n[0].otherAge, LEASE); older(n[0].stampAge, GRACE + 1);
       older(n[1].reachedAge, TRUSTED); older(n[1].renewedAge, TRUSTED); older(n[1].watchedAge, LEASE); older(n[1].otherAge, LEASE); older(n[1].stampAge, GRACE + 1);
       if :: n[0].pursuing -> older(n[0].askedAge, GRACE + 1) :: else fi;
       if :: n[1].pursuing -> older(n[1].askedAge, GRACE + 1) :: else fi;
       older(heard[0].age, LEASE); older(heard[1].age, LEASE)
     }
#if FLUSHES > 0
  :: atomic {
       (flushes < FLUSHES) -> flushes++;
       newestEpoch++; s[address].epoch = newestEpoch; s[address].seq = 0; s[address].log[1] = 0; s[address].log[2] = 0;
       s[address].incarnation = 0; s[address].markerId = 0; s[address].settled = 0; s[address].listed[0] = 0; s[address].listed[1] = 0
     }
#endif
#if RESTARTS > 0
  :: atomic {   /* with the file of the beginning, and its list of nodes */
       (restarts < RESTARTS) -> restarts++;
       s[0].seq = 0; s[0].log[1] = 0; s[0].log[2] = 0; first_list(); newestId++; s[0].id = newestId; cut_connections(0)
     }
#endif
#if FAILOVERS > 0
  :: atomic {   /* the replica takes in what it lacks; of the registry it has that of the beginning, which no longer counts there */
       (s[1].following && s[0].primary && s[1].seq < s[0].seq) -> copy_data(s[1], s[0])
     }
  :: atomic {   /* promoted, and the address leads to it */
       (failovers < FAILOVERS && s[1].following) -> failovers++;
       s[1].following = 0; s[1].primary = 1; newestId++; s[1].id = newestId; address = 1;
       if
       :: s[0].primary = 0   /* the old primary is demoted; connections stay */
       :: s[0].primary = 0; s[0].up = 0; cut_connections(0)
#ifdef OLD_PRIMARY_LIVES
       :: skip               /* and takes writes */
#endif
       fi;
#ifdef DURABLE
       check_no_loss()
#endif
     }
#ifdef OLD_PRIMARY_LIVES
  :: atomic { (address == 1 && s[0].up && s[0].primary) -> s[0].primary = 0 }
#endif
#ifdef DURABLE
  :: atomic {   /* the old primary is in step with the new one */
       (address == 1 && s[0].up && !s[0].primary && (!s[0].following || s[0].seq != s[1].seq)) ->
       copy_data(s[0], s[1]); s[0].id = s[1].id; s[0].following = 1
     }
#endif
#endif
  od
}

init {
  atomic {
    s[0].up = 1; s[0].primary = 1; s[0].id = 1; s[0].epoch = 1;
    first_list();
    s[1].up = 1; s[1].following = 1; s[1].epoch = 1; s[1].incarnation = 1; s[1].markerId = 1; s[1].settled = 1;
    /* node 0 has never run; node 1 has its lease, and is current */
    n[0].on = NOWHERE; n[0].reachedAge = TRUSTED; n[0].renewedAge = TRUSTED; n[0].stampAge = GRACE + 1; n[0].epoch = 1;
    n[1].on = 0; n[1].linkId = 1; n[1].renewedOn = 1; n[1].incarnation = 1; n[1].epoch = 1;
    n[1].watched = 1; n[1].vouchedFor = 1;
    heard[0].age = LEASE; heard[1].age = LEASE;
#ifdef BOTH_CURRENT
    n[0].on = 0; n[0].linkId = 1; n[0].reachedAge = 0; n[0].renewedAge = 0; n[0].renewedOn = 1; n[0].incarnation = 1; n[0].vouchedFor = 1;
    s[0].listed[0] = 1; s[0].unseenByOther[0] = 1; s[0].unseenByWriter[0] = 1;
    deaf = 0;
#else
    if :: deaf = 0 :: deaf = 1 fi;
#endif
    run Replicator(0); run Replicator(1); run Writer(); run World()
  }
}
