"""Options and environment: defaults, precedence, and every mistake of one call named at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.config import OPTIONS, ServeConfig, read_config
from gate.errors import InvalidConfig
from gate.option_values import ROLES, Endpoint, TlsFiles

WRONG = {
    "http": ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "::1:80", "a b:1", "host:-1"],
    "resp": ["x"],
    "redis": ["localhost", "http://localhost", "redis://", "unix://", "redis://h:99999", "redis://[::1"],
    "resp_tls": ["8443", "host"],
    "http_tls": ["8443"],
    "tls_cert": ["a\0b"],
    "tls_key": ["a\0b"],
    "tls_client_ca": ["a\0b"],
    "secret_key_file": ["a\0b"],
    "unix": ["/tmp/" + "x" * 120],
    "workers": ["0", "65", "many", "-1", "1.5", "9" * 40],
    "http_workers": ["0", "65", "auto", "-1", "1.5"],
    "role": ["", "router", "worker,,http", "worker;http"],
    "partitions": ["0", "1025"],
    "max_staleness_ms": ["-1", "forever"],
    "on_stale": ["allow"],
    "ack_timeout_ms": ["0"],
    "durability": ["", "disk", "LOCAL", "replica,fsync", "replica:2"],
    "durability_replicas": ["0", "17", "-1", "all", "1.5"],
    "presence_redis": ["localhost:6379", "http://localhost", "redis://"],
    "lease_ttl_ms": ["0", "999", "600001", "15s"],
    "health": ["8081", "127.0.0.1"],
    "trusted_proxies": ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,,::/0", "10.0.0.0/8;::/0"],
    "http_idle_timeout": ["0", "0.5", "3601", "2m"],
    "public_url": [
        "im.example.com",
        "ftp://a",
        "https://",
        "https://a/?b",
        "https://a/#b",
        "https://u:p@a/",
        "https://a/b c",
    ],
    "drain_timeout": ["0", "1e3", "601"],
    "log_level": ["loud"],
    "log_format": ["xml"],
    "log_checks": ["2", "-1", "1.5", "1%", "nan", ".", "0.0000001"],
    "otel_endpoint": ["localhost:4318", "ftp://a", "http://", "http://a/?b"],
    "data": ["a\0b"],
}


def test_defaults_are_those_of_the_contract() -> None:
    config = read_config({}, {})
    assert config.directory == Path("gate-data").absolute()
    assert str(config.http) == "127.0.0.1:8080"
    assert str(config.resp) == "127.0.0.1:6390"
    assert config.redis is None
    assert config.role == ROLES
    assert (config.max_staleness_ms, config.on_stale, config.ack_timeout_ms) == (0, "serve", 1000)
    assert config.log_checks == 0.0
    assert (config.durability, config.durability_replicas) == ("local", 1)
    assert config.http_workers == 1
    assert 1 <= config.workers <= max(1, len(os.sched_getaffinity(0)) // 2)


def test_an_option_wins_over_the_environment_and_that_over_the_default() -> None:
    environment = {"GATE_HTTP": "0.0.0.0:1", "GATE_WORKERS": "3", "GATE_LOG_FORMAT": "json"}
    config = read_config({"http": "[::1]:2"}, environment)
    assert config.http == Endpoint("::1", 2)
    assert str(config.http) == "[::1]:2"
    assert (config.workers, config.log_format) == (3, "json")


TLS = {"resp_tls": "127.0.0.1:1", "tls_cert": "/c", "tls_key": "/k"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tls_key": None}, "--resp-tls, --http-tls: a TLS port needs --tls-cert FILE and --tls-key FILE"),
        ({"tls_key": None, "tls_cert": None}, "a TLS port needs --tls-cert FILE and --tls-key FILE"),
        ({"resp_tls": None, "tls_key": None}, "--tls-cert: give --tls-cert and --tls-key together"),
        ({"resp_tls": None}, "--tls-cert: give --resp-tls HOST:PORT or --http-tls HOST:PORT as well"),
        (dict.fromkeys(TLS) | {"tls_client_ca": "/a"}, "--tls-client-ca: give --resp-tls HOST:PORT or --http-tls"),
        ({"resp": "127.0.0.1:1"}, "--resp-tls: give it a port of its own (127.0.0.1:1 is taken by --resp)"),
        ({"http_tls": "127.0.0.1:1"}, "--http-tls: give it a port of its own (127.0.0.1:1 is taken by --resp-tls)"),
        ({"health": "127.0.0.1:1"}, "--resp-tls: give it a port of its own (127.0.0.1:1 is taken by --health)"),
    ],
)
def test_options_of_tls_belong_together(changed: dict[str, str | None], said: str) -> None:
    given = {name: text for name, text in {**TLS, **changed}.items() if text is not None}
    with pytest.raises(InvalidConfig) as caught:
        read_config(given, {})
    assert len(caught.value.problems) == 1 and said in caught.value.problems[0]
    assert read_config(TLS, {}).tls_files == TlsFiles("/c", "/k")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("GATE_REDIS", "", "GATE_REDIS: is empty"),
        ("GATE_WORKERS", "", "GATE_WORKERS: is empty"),
        ("GATE_APP_SECRET", "", "GATE_APP_SECRET: is empty"),
        ("GATE_REDIS_URL", "redis://h", "GATE_REDIS_URL: there is no such setting; did you mean GATE_REDIS?"),
        ("GATE_WORKER", "2", "did you mean GATE_WORKERS?"),
        ("GATE_PORT", "8080", "GATE_PORT: there is no such setting"),
        ("GATE_", "x", "GATE_: there is no such setting"),
    ],
)
def test_a_variable_that_is_empty_or_unknown_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(said)):
        read_config({}, {name: text})
    with pytest.raises(InvalidConfig, match=re.escape(said)):
        read_config({"redis": "redis://h", "workers": "1"}, {name: text})


def test_what_kubernetes_says_of_a_service_named_gate_is_no_mistake() -> None:
    links = {
        "GATE_SERVICE_HOST": "10.0.0.1",
        "GATE_SERVICE_PORT": "8080",
        "GATE_SERVICE_PORT_HTTP": "8080",
        "GATE_PORT": "tcp://10.0.0.1:8080",
        "GATE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "GATE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "GATE_PORT_8080_TCP_PORT": "8080",
        "GATE_PORT_8080_TCP_PROTO": "tcp",
        "GATE_NODES_SERVICE_HOST": "None",
        "GATE_NODES_PORT": "tcp://10.0.0.1:6390",
    }
    read_config({}, links)


@pytest.mark.parametrize(
    "content", [b"redis://u:p@h:1/0", b"\xef\xbb\xbfredis://u:p@h:1/0\r\n\r\n", "redis://u:p@h:1/0\n".encode("utf-16")]
)
def test_a_file_may_hold_the_url_of_redis(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_bytes(content)
    config = read_config({}, {"GATE_REDIS_FILE": str(file), "GATE_PRESENCE_REDIS_FILE": str(file)})
    assert (config.redis, config.presence_redis) == ("redis://u:p@h:1/0",) * 2
    assert "redis" not in config.role
    assert read_config({"redis": "redis://other"}, {"GATE_REDIS_FILE": str(file)}).redis == "redis://other"
    with pytest.raises(InvalidConfig, match="GATE_REDIS and GATE_REDIS_FILE: give one"):
        read_config({}, {"GATE_REDIS_FILE": str(file), "GATE_REDIS": "redis://h"})


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"hunter2", b"\xff\xfe\x00", b"redis://u:hun/ter2@h:1"])
def test_a_file_without_a_url_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        read_config({}, {"GATE_REDIS_FILE": str(file)})
    assert caught.value.problems[0].startswith("GATE_REDIS_FILE: ")
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
def test_a_wrong_value_is_named_with_its_flag(name: str, text: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_config({name: text}, {})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(OPTIONS[name].flag + ": ")


def test_all_mistakes_of_one_call_are_named_at_once() -> None:
    given = {name: texts[-1] for name, texts in WRONG.items() if name not in ("on_stale", "log_level")}
    environment = {"GATE_ON_STALE": "allow", "GATE_LOG_LEVEL": "loud"}
    with pytest.raises(InvalidConfig) as caught:
        read_config(given, environment)
    named = [problem.partition(":")[0] for problem in caught.value.problems]
    expected = {OPTIONS[name].flag for name in given} | set(environment)
    assert sorted(named) == sorted(expected)


def test_a_password_in_a_wrong_url_is_not_repeated() -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_config({"redis": "rediss//user:hunter2@host"}, {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"http": "h:1", "resp": "h:1"}, "--resp: give it a port of its own .h:1 is taken by --http"),
        ({"http": "h:1", "admin_http": "h:1"}, "--admin-http: give it a port of its own .h:1 is taken by --http"),
        ({"resp": "h:1", "admin_http": "h:1"}, "--admin-http: give it a port of its own .h:1 is taken by --resp"),
        ({"health": "h:1", "admin_http": "h:1"}, "--admin-http: give it a port of its own .h:1 is taken by --health"),
        ({"redis": "redis://h", "redis_server": "/bin/true"}, "--redis and --redis-server"),
        ({"redis": "redis://h", "role": "redis"}, "--role redis"),
        ({"on_stale": "refuse"}, "--max-staleness-ms"),
    ],
)
def test_values_that_contradict_each_other_are_refused(given: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidConfig, match=named):
        read_config(given, {})


def test_two_ports_left_to_the_kernel_do_not_collide() -> None:
    config = read_config({"http": "127.0.0.1:0", "resp": "127.0.0.1:0"}, {})
    assert config.http == config.resp


def test_the_embedded_server_does_not_run_if_another_redis_is_named() -> None:
    assert "redis" not in read_config({"redis": "redis://h:1/0"}, {}).role


def test_roles_keep_their_order_and_all_means_all() -> None:
    assert read_config({"role": "http, worker"}, {}).role == ("worker", "http")
    assert read_config({"role": "all"}, {}).role == ROLES


def test_a_config_survives_the_trip_to_a_role() -> None:
    config = read_config({"redis": "unix:///tmp/x.sock", "partitions": "4"}, {})
    assert msgspec.json.decode(msgspec.json.encode(config), type=ServeConfig) == config


@given(st.sampled_from(sorted(OPTIONS)), st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(name: str, text: str) -> None:
    try:
        read_config({name: text}, {})
    except InvalidConfig as refused:
        assert refused.problems


@pytest.mark.parametrize("name", ["public_url", "http", "trusted_proxies", "node_name", "redis"])
def test_what_may_hold_a_password_is_not_repeated(name: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        read_config({name: "ftp://user:hunter2@h\n"}, {})
    assert "hunter2" not in str(refused.value) and "user" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"operator_header": "X-User"}, "--operator-header: name the proxies"),
        ({"operator_header": "X User", "trusted_proxies": "10.0.0.1"}, "--operator-header: write the name of a header"),
        ({"operator_groups": "a=admin"}, "give both, and --operator-header"),
        ({"operator_groups_header": "X-Groups", "operator_groups": "a=admin"}, "give both, and --operator-header"),
        ({"operator_groups": "a=root"}, "--operator-groups: write GROUP=ROLE"),
        ({"operator_groups": "a=admin,a=viewer"}, "--operator-groups: write GROUP=ROLE"),
    ],
)
def test_headers_of_a_proxy_need_the_proxy_and_each_other(given: dict[str, str], problem: str) -> None:
    with pytest.raises(InvalidConfig, match=problem):
        read_config(given, {})


def test_roles_of_groups_are_read() -> None:
    proxy = {"trusted_proxies": "10.0.0.1", "operator_header": "X-User", "operator_groups_header": "X-Groups"}
    config = read_config({**proxy, "operator_groups": "a/ops=operator, support=viewer"}, {})
    assert config.operator_groups == {"a/ops": "operator", "support": "viewer"}
