"""Where the described things lie: configs/<kind>/<name>.toml of the checkout, or any TOML file by its path."""

from pathlib import Path
from typing import Final, Literal, TypeVar

from tp import schema
from tp.errors import ConfigError
from tp.flags import choice

Kind = Literal["hardware", "networks", "models", "suites", "claims"]

CONFIGS: Final = Path(__file__).resolve().parents[1] / "configs"

T = TypeVar("T")


def names(kind: Kind) -> tuple[str, ...]:
    """The names that come with the project, sorted."""
    return tuple(sorted(path.stem for path in (CONFIGS / kind).glob("*.toml")))


def find(name: str, *, kind: Kind, flag: str) -> Path:
    """The file behind `name`, a catalogue name or a path that ends in .toml; ConfigError if there is none."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{flag} {name}: no such file; give a TOML file or one of {', '.join(names(kind))}")
        return path
    if name not in names(kind) and Path(name).exists():
        raise ConfigError(f"{flag} {name}: is no .toml file; give one, or one of {', '.join(names(kind))}")
    return CONFIGS / kind / f"{choice(name, names(kind), flag=flag)}.toml"


def load(name: str, cls: type[T], *, kind: Kind, flag: str) -> T:
    """Read the description `name` as `cls`."""
    return schema.load_toml(find(name, kind=kind, flag=flag), cls)
