"""Callers with redis-py. A message router: batches of checks as pipelines, a group's fan-out, now and then a reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from locust import User, constant_throughput, task

from loadtests.users.target import target

PIPELINE = 100
RECIPIENTS = 100
EXCHANGES_A_SECOND = 8
# More than that and 70 users would measure locust, which is one Python process, rather than the service.
TIMEOUT_S = 5.0


class RespUser(User):
    """Someone with a connection of its own, bound to the App."""

    abstract = True

    def on_start(self) -> None:
        self.target = target()
        self.client = redis.Redis(
            host=self.target.resp_host,
            port=self.target.resp_port,
            username=self.target.app_key,
            password=self.target.app_secret,
            socket_timeout=TIMEOUT_S,
        )

    def on_stop(self) -> None:
        self.client.close()

    def command(self, *parts: str) -> Any:
        """One command."""
        return self.client.execute_command(*parts)

    def timed(self, name: str, ask: Callable[[], Any], is_right: Callable[[Any], bool]) -> None:
        """One exchange, reported to locust; a wrong answer is a failure as an error is."""
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            answer = ask()
            if not is_right(answer):
                failure = ValueError(f"unexpected answer: {str(answer)[:100]}")
        except redis.RedisError as error:
            failure = error
        elapsed_ms = (time.perf_counter() - started) * 1_000
        self.environment.events.request.fire(
            request_type="RESP", name=name, response_time=elapsed_ms, response_length=0, exception=failure
        )


class RespRouter(RespUser):
    """Every request that locust counts is one exchange; a pipeline is a hundred checks."""

    weight = 4
    wait_time = constant_throughput(EXCHANGES_A_SECOND)

    @task(8)
    def check_pipelined(self) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for _ in range(PIPELINE):
            pipeline.execute_command("GATE.CHECK", self.target.any_user(), self.target.any_user())
        self.timed(f"GATE.CHECK x {PIPELINE}", pipeline.execute, lambda answers: set(answers) <= {0, 1})

    @task(2)
    def check_group(self) -> None:
        recipients = [self.target.any_user() for _ in range(RECIPIENTS)]
        sender = self.target.any_user()
        self.timed(
            f"GATE.MCHECK x {RECIPIENTS}",
            lambda: self.command("GATE.MCHECK", sender, *recipients),
            lambda answers: len(answers) == RECIPIENTS,
        )

    @task(1)
    def ask_reason(self) -> None:
        sender, recipient = self.target.any_user(), self.target.any_user()
        self.timed(
            "GATE.VERDICT",
            lambda: self.command("GATE.VERDICT", sender, recipient),
            lambda word: isinstance(word, bytes),
        )
