"""What tests of the configuration share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hitless.errors import ConfigurationError


@pytest.fixture
def faults_of() -> Callable[..., list[str]]:
    """Call something that must raise ConfigurationError; its faults."""

    def faults_of(function, *arguments, **options) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            function(*arguments, **options)
        return list(caught.value.faults)

    return faults_of


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., None]:
    """Install a distribution made of one module: entry points by group, importable in this process."""

    def install(name: str, module: str, source: str, **groups: dict[str, str]) -> None:
        site = tmp_path / f"site-{name}"
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines: list[str] = []
        for group, entries in groups.items():
            lines += [f"[hitless.{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.syspath_prepend(site)

    return install


@pytest.fixture
def write(tmp_path) -> Callable[[str], Path]:
    """Write a configuration to a file."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
