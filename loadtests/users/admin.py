"""An app server that bans, lists and lifts over the signed API, and holds the service to its word: after each answer, a check
must already say so. A verdict older than an acknowledged write is a failure of the run.
"""

from __future__ import annotations

import base64
import itertools
import os
from typing import Any
from urllib.parse import urlencode

from locust import FastHttpUser, constant_throughput, task

from harness.signing import signature_headers
from loadtests.users.target import target

ROUNDS_A_SECOND = 2
_numbers = itertools.count()


class AppServer(FastHttpUser):
    """Works on two Users of its own, so that a write of another client explains no wrong answer."""

    weight = 1
    wait_time = constant_throughput(ROUNDS_A_SECOND)

    def on_start(self) -> None:
        self.target = target()
        number = f"{os.getpid()}-{next(_numbers)}"
        self.ana, self.bob = f"admin-ana-{number}", f"admin-bob-{number}"
        secret = base64.b64encode(f"{self.target.app_key}:{self.target.app_secret}".encode()).decode()
        self.basic = {"Authorization": f"Basic {secret}"}

    @task(3)
    def ban_and_lift(self) -> None:
        self._write("/user/block.json", userId=self.ana, minute="10")
        self._expect("sender-banned")
        self._write("/user/unblock.json", userId=self.ana)
        self._expect("allowed")

    @task(3)
    def block_and_unblock(self) -> None:
        self._write("/user/blacklist/add.json", userId=self.bob, blackUserId=self.ana)
        self._expect("blacklisted")
        self._write("/user/blacklist/remove.json", userId=self.bob, blackUserId=self.ana)
        self._expect("allowed")

    @task(2)
    def admit_and_switch(self) -> None:
        self._write("/user/whitesetting/set.json", userId=self.bob, whiteSetting="1")
        self._expect("not-whitelisted")
        self._write("/user/whitelist/add.json", userId=self.bob, whiteUserId=self.ana)
        self._expect("allowed")
        self._write("/user/whitelist/remove.json", userId=self.bob, whiteUserId=self.ana)
        self._write("/user/whitesetting/set.json", userId=self.bob, whiteSetting="0")
        self._expect("allowed")

    def _write(self, path: str, **fields: str) -> None:
        headers = signature_headers(self.target.app_key, self.target.app_secret)
        with self.client.post(
            path, data=urlencode(fields), headers=headers, name=f"POST {path}", catch_response=True
        ) as response:
            applied = (response.headers or {}).get("X-Gate-Applied")
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text}")
            elif applied != "all":
                response.failure(f"applied to {applied}, not to all")

    def _expect(self, verdict: str) -> None:
        url = f"/v1/check?from={self.ana}&to={self.bob}"
        with self.client.get(url, headers=self.basic, name="effect of a write", catch_response=True) as response:
            answer: dict[str, Any] = (response.json() if response.status_code == 200 else None) or {}
            if answer.get("verdict") != verdict:
                response.failure(f"{verdict} was acknowledged, the check says {answer.get('verdict')}")
