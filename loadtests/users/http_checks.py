"""A program without a Redis client: single checks and batches over HTTP."""

from __future__ import annotations

import base64

from locust import FastHttpUser, constant_throughput, task

from loadtests.users.target import target

BATCH = 100
REQUESTS_A_SECOND = 5


class HttpRouter(FastHttpUser):
    """HTTP Basic with App key and secret."""

    weight = 2
    wait_time = constant_throughput(REQUESTS_A_SECOND)

    def on_start(self) -> None:
        self.target = target()
        secret = base64.b64encode(f"{self.target.app_key}:{self.target.app_secret}".encode()).decode()
        self.headers = {"Authorization": f"Basic {secret}"}

    @task(5)
    def check(self) -> None:
        query = f"from={self.target.any_user()}&to={self.target.any_user()}"
        self.client.get(f"/v1/check?{query}", headers=self.headers, name="GET /v1/check")

    @task(3)
    def check_batch(self) -> None:
        pairs = [[self.target.any_user(), self.target.any_user()] for _ in range(BATCH)]
        name = f"POST /v1/check x {BATCH}"
        self.client.post("/v1/check", json={"pairs": pairs}, headers=self.headers, name=name)

    @task(1)
    def explain(self) -> None:
        query = f"from={self.target.any_user()}&to={self.target.any_user()}"
        self.client.get(f"/v1/explain?{query}", headers=self.headers, name="GET /v1/explain")
