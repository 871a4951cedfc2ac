"""Passwords and keys in addresses: what is masked, taken out, and remembered."""

import base64

import pytest

from infra import passwords
from infra.passwords import bare, credentials_of, has_secret, masked, remember


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(passwords, "_known", set())


@pytest.mark.parametrize(
    ("text", "shown", "without"),
    [
        ("http://me:pw1@host:5000/a", "http://***@host:5000/a", "http://host:5000/a"),
        ("https://a-token@host", "https://***@host", "https://host"),
        ("x=postgresql://me:p%40w@host/db, y", "x=postgresql://***@host/db, y", "x=postgresql://host/db, y"),
        ("mysql+pymysql://me:a@b@host", "mysql+pymysql://***@host", "mysql+pymysql://host"),
        ("s3://KEY:se/cr+et@bucket/x", "s3://***@bucket/x", "s3://bucket/x"),
        ("'http://:pw@host' and https://u:v@h2", "'http://***@host' and https://***@h2", "'http://host' and https://h2"),
        ("/cwd/https:/me:pw@host/a", "/cwd/https:/***@host/a", "/cwd/https:/host/a"),
        ("https://h/k?X-Amz-Signature=a1&b=2", "https://h/k?X-Amz-Signature=***&b=2", "https://h/k?X-Amz-Signature=***&b=2"),
        ("http://h?a=1&api_key=k;TOKEN=t#f", "http://h?a=1&api_key=***;TOKEN=***#f", "http://h?a=1&api_key=***;TOKEN=***#f"),
    ],
)  # fmt: skip
def test_a_secret_in_an_address_is_masked_and_taken_out(text, shown, without):
    assert has_secret(text)
    assert masked(text) == shown
    assert bare(text) == without


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/#/experiments/1",
        "http://host:5000/a@b",
        "http://[::1]:5000/a@b",
        "s3://bucket/key@v1",
        "sqlite:////home/me@lab/mlflow.db",
        "image@sha256:0123",
        "me@host: it is said",
        "/data/a:/b@c",
        "http://h/a?page=2&monkey=x",
        "registry:5000/image@sha256:1",
    ],
)
def test_what_is_no_secret_stays(text):
    assert not has_secret(text)
    assert masked(text) == bare(text) == text
    assert credentials_of(text) is None


def test_credentials_are_decoded():
    assert credentials_of("http://a%40b:p%2Fw%3A1@host") == ("a@b", "p/w:1")
    assert credentials_of("http://user:a:b@host") == ("user", "a:b")
    assert credentials_of("https://token@host") == ("token", "")


def test_what_was_read_is_masked_in_every_form():
    remember("tracking.uri=http://mary:hun%23ter%402@host")
    header = base64.b64encode(b"mary:hun#ter@2").decode()
    assert masked("user mary, password hun#ter@2 or hun%23ter%402") == "user mary, password *** or ***"
    assert masked(f"Authorization: Basic {header}") == "Authorization: Basic ***"
    remember("https://h/x?token=abcdef")
    assert masked("the token abcdef is wrong") == "the token *** is wrong"


def test_a_short_password_is_not_masked_in_other_words():
    remember("http://me:a@host")
    assert masked("a cat, http://me:a@host") == "a cat, http://***@host"
