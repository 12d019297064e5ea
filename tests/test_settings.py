"""Settings: environment over file over default, and nothing wrong gets through."""

import logging
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
import structlog

from service import logs
from service.settings import DEFAULT_FILE, Settings, SettingsError, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_the_file_in_the_repository_lists_every_setting_at_its_default() -> None:
    assert tomllib.loads(DEFAULT_FILE.read_text()) == asdict(Settings())


def test_every_setting_in_the_file_has_a_comment_above_it() -> None:
    paragraphs = DEFAULT_FILE.read_text().split("\n\n")
    assert all(paragraph.startswith("#") for paragraph in paragraphs)


def test_the_file_wins_over_the_default(file: Path) -> None:
    file.write_text("http_port = 9000\n")
    assert load({"CONFIG_FILE": str(file)}).http_port == 9000


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text("http_port = 9000\n")
    assert load({"CONFIG_FILE": str(file), "HTTP_PORT": "9001"}).http_port == 9001


def test_an_empty_variable_is_not_set() -> None:
    assert load({"HTTP_PORT": ""}).http_port == 8080


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("http_prot = 1", "http_prot"),
        ('http_port = "many"', "http_port"),
        ("http_port = 80.5", "http_port"),
        ("http_port = true", "http_port"),
        ("http_port = 0", "http_port"),
        ("http_port = 65536", "http_port"),
        ("http_header_bytes = 1023", "http_header_bytes"),
        ("http_connections = 9", "http_connections"),
        ("http_idle_seconds = 0", "http_idle_seconds"),
        ("database_pool_size = 1", "database_pool_size"),
        ("relay_batch_size = 0", "relay_batch_size"),
        ("shutdown_seconds = 3601", "shutdown_seconds"),
        ("http_host = 1", "http_host"),
        ("relay_poll_seconds = 0", "relay_poll_seconds"),
        ('relay_poll_seconds = "soon"', "relay_poll_seconds"),
        ('log_level = "loud"', "log_level"),
        ('database_url = "mysql://x"', "database_url"),
        ('database_url = "postgresql://u:pa/ss@h/d"', "database_url"),
        ('amqp_url = "http://x"', "amqp_url"),
        ('amqp_url = "amqp://"', "amqp_url"),
        ('amqp_url = "amqp://u:pa/ss@h/"', "amqp_url"),
        ('assistants_url = "ftp://h/{organization_id}/{assistant_id}"', "assistants_url"),
        ('assistants_url = "http:///{organization_id}/{assistant_id}"', "assistants_url"),
        ('assistants_url = "http://h:x/{organization_id}/{assistant_id}"', "assistants_url"),
        ('assistants_url = "http://a..b/{organization_id}/{assistant_id}"', "assistants_url"),
        ('assistants_url = "http://h/{organization_id}"', "assistants_url"),
        ('assistants_url = "http://h/{assistant_id}"', "assistants_url"),
        ('assistants_url = "http://h/{organization_id}#{assistant_id}"', "assistants_url"),
        ("assistants_timeout_seconds = 0", "assistants_timeout_seconds"),
        ("assistants_cache_seconds = 3601", "assistants_cache_seconds"),
        ('assistants_unreachable = "ignore"', "assistants_unreachable"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(file: Path, line: str, name: str) -> None:
    file.write_text(line + "\n")
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load({"CONFIG_FILE": str(file)})


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"http_port: .*; log_level: "):
        load({"HTTP_PORT": "x", "LOG_LEVEL": "x"})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:p@one:5432,two:5433/d?target_session_attrs=primary", "with a standby"),
        ("postgresql:///d?host=/run/postgresql", "over a socket"),
        ("postgres://u:p%40ss@[::1]:5432/d", "another scheme, an encoded password, IPv6"),
    ],
)
def test_a_database_url_may_be_any_that_the_driver_reads(url: str, reason: str) -> None:
    assert load({"DATABASE_URL": url}).database_url == url, reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "nobody is asked"),
        ("http://u:p%40ss@[::1]:80/{organization_id}/{assistant_id}", "a password, IPv6"),
        ("https://h/{assistant_id}?of={organization_id}", "TLS, in any order, in the query"),
    ],
)
def test_an_assistants_url_may_be_any_that_has_both_placeholders(
    file: Path, url: str, reason: str
) -> None:
    file.write_text(f'assistants_url = "{url}"')
    assert load({"CONFIG_FILE": str(file)}).assistants_url == url, reason


def test_a_log_level_may_be_written_in_capitals() -> None:
    assert load({"LOG_LEVEL": "INFO"}).log_level == "info"


@pytest.mark.parametrize("name", ["DATABASE_URL", "AMQP_URL", "ASSISTANTS_URL"])
def test_a_wrong_secret_is_not_repeated(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "= broken", "\xff"])
def test_a_file_that_cannot_be_read_stops_the_start(file: Path, content: str | None) -> None:
    if content is not None:
        file.write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match=str(file)):
        load({"CONFIG_FILE": str(file)})


@pytest.fixture
def secretive() -> Settings:
    return Settings(
        database_url="postgresql://u:hunter2@h/d",
        amqp_url="amqp://u:hunter2@h/",
        assistants_url="http://u:hunter2@h/{organization_id}/{assistant_id}",
        log_format="json",
    )


def test_secrets_are_not_in_the_representation(secretive: Settings) -> None:
    assert "hunter2" not in repr(secretive)


@pytest.mark.usefixtures("restored_logging")
def test_secrets_are_not_in_the_logs(
    secretive: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure(secretive)
    structlog.get_logger("test").info("starting", settings=secretive)
    logging.getLogger("other").warning("with %s", secretive)
    text = capfd.readouterr().err
    assert text.count("http_port=8080") == 2
    assert "hunter2" not in text


def test_the_file_in_the_repository_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("http_port = 9000\n")
    monkeypatch.setattr("service.settings.DEFAULT_FILE", file)
    assert load({}).http_port == 9000
