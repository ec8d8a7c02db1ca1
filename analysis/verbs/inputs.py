"""--select of the verbs that read tables."""

from analysis.measured.tables import Select
from tp.errors import ConfigError
from tp.flags import comma_list


def parse_select(words: tuple[str, ...]) -> Select:
    """COLUMN=VALUE[,VALUE...], several of them; ConfigError for anything else."""
    select: dict[str, frozenset[str]] = {}
    for word in words:
        column, equals, values = word.partition("=")
        if not equals or not column or not values:
            raise ConfigError(f"--select {word}: is not COLUMN=VALUE; give one such as hardware=L40S")
        if column in select:
            raise ConfigError(f"--select {word}: {column} is chosen twice; list its values with commas")
        select[column] = frozenset(comma_list(values, str, flag="--select"))
    return select
