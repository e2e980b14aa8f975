"""A connection gateway: it keeps a lease, its clients come and go, routers ask where they are, and at times all drop at once.

It checks the service's promises: a User whose connect was answered is online, and after a storm all Users are.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from locust import constant_throughput, task

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from loadtests.users.resp import RespUser
from loadtests.users.target import target

CLIENTS = 40
"""Users of each Gateway, its own, so that a kick or connect of another Gateway explains no wrong answer."""
COMING = 20
EXCHANGES_A_SECOND = 5
BEAT_S = 4.0
"""Somewhat more often than a third of the lease."""
PLATFORMS = ("iOS", "Android", "Web")
_numbers = itertools.count()


class Gateway(RespUser):
    """Every request that locust counts is one exchange."""

    weight = 2
    wait_time = constant_throughput(EXCHANGES_A_SECOND)

    def on_start(self) -> None:
        super().on_start()
        self.name = f"load-{os.getpid()}-{next(_numbers)}"
        app = AppFacts(key=self.target.app_key, secrets=(self.target.app_secret,))
        users = [f"{self.name}-{number}" for number in range(CLIENTS)]
        self.tokens = {user: token.mint(app, user.encode(), wall_ms(), os.urandom(8)) for user in users}
        self.sessions: dict[str, bytes] = {}
        self.epoch = 0
        self._begin()
        self._connect(users[: CLIENTS // 2])

    def on_stop(self) -> None:
        self._disconnect(list(self.sessions))
        super().on_stop()

    @task(6)
    def come_and_go(self) -> None:
        self._beat_if_due()
        away = [user for user in self.tokens if user not in self.sessions]
        self._connect(random.sample(away, min(COMING, len(away))))
        self._disconnect(random.sample(list(self.sessions), COMING))

    @task(3)
    def ask_online(self) -> None:
        self._beat_if_due()
        users = list(self.tokens)
        right = [int(user in self.sessions) for user in users]
        self.timed(
            f"GATE.ONLINE x {CLIENTS}", lambda: self.command("GATE.ONLINE", *users), lambda answer: answer == right
        )

    @task(2)
    def ask_route(self) -> None:
        self._beat_if_due()
        if not self.sessions:
            return
        user, session = random.choice(list(self.sessions.items()))
        sender = target().any_user()

        def is_right(answer: Any) -> bool:
            """A sender that the facts ban is refused, which says nothing of the recipient."""
            return answer[0] != b"allowed" or session in [place[2] for place in answer[1]]

        self.timed("GATE.ROUTE", lambda: self.command("GATE.ROUTE", sender, user), is_right)

    @task(1)
    def storm(self) -> None:
        """All of its clients drop, and are back at once: a Gateway that was restarted."""
        everyone = list(self.sessions)
        self.sessions = {}
        self._begin()
        self._connect(everyone)

    def _begin(self) -> None:
        self.epoch = max(self.epoch + 1, wall_ms())
        self._beat()

    def _beat_if_due(self) -> None:
        if time.monotonic() - self._beaten_at_s >= BEAT_S:
            self._beat()

    def _beat(self) -> None:
        self._beaten_at_s = time.monotonic()
        self.timed(
            "GATE.LEASE",
            lambda: self.command("GATE.LEASE", self.name, str(self.epoch)),
            lambda answer: isinstance(answer, int),
        )

    def _connect(self, users: list[str]) -> None:
        platform = random.choice(PLATFORMS)
        commands = [("GATE.CONNECT", self.tokens[user], platform, self.name) for user in users]
        answers = self._pipelined(f"GATE.CONNECT x {COMING}", commands, bytes)
        self.sessions.update(zip(users, answers, strict=False))

    def _disconnect(self, users: list[str]) -> None:
        commands = [("GATE.DISCONNECT", self.sessions.pop(user)) for user in users]
        self._pipelined(f"GATE.DISCONNECT x {COMING}", commands, int)

    def _pipelined(self, name: str, commands: Sequence[tuple[str | bytes, ...]], kind: type) -> list[Any]:
        if not commands:
            return []
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = []

        def ask() -> list[Any]:
            answers.extend(pipeline.execute())
            return answers

        self.timed(name, ask, lambda given: all(isinstance(one, kind) and one != 0 for one in given))
        return answers
