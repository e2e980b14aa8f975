"""A message router that asks Gate before it delivers: reads lines `from to text`, and prints what it does with each."""

import os
import sys

import redis

gate = redis.Redis(
    host="127.0.0.1",
    port=int(os.environ["GATE_PORT"]),
    username=os.environ["GATE_APP"],
    password=os.environ["GATE_SECRET"],
    socket_timeout=1,
    decode_responses=True,
)


def verdicts(pairs):
    """One round trip for all pairs. Where Gate gave no verdict, None."""
    pipeline = gate.pipeline(transaction=False)
    for sender, recipient in pairs:
        pipeline.execute_command("GATE.VERDICT", sender, recipient)
    try:
        answers = pipeline.execute(raise_on_error=False)
    except (redis.ConnectionError, redis.TimeoutError):
        return [None] * len(pairs)
    return [answer if isinstance(answer, str) else None for answer in answers]


messages = [line.split(maxsplit=2) for line in sys.stdin]
words = verdicts([(sender, recipient) for sender, recipient, _ in messages])
for (sender, recipient, _text), verdict in zip(messages, words, strict=True):
    if verdict == "allowed":
        print("deliver", sender, recipient)
    elif verdict is None:
        print("hold", sender, recipient)  # ask again later: nothing is known
    else:
        print("refuse", sender, recipient, verdict)
