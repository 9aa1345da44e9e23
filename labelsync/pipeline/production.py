"""`promote` and `rollback`: which round's model the robots use.

On the Hub that is the tag `production` of the model repo, which robots load by name; beside labelsync.toml it is
rounds/production.json, which also remembers what was there before.
"""

from pathlib import Path

from labelsync.errors import ModelNotFound, OptionError
from labelsync.pipeline.config import NAME, Config, read_config
from labelsync.pipeline.rounds import (
    PRODUCTION_TAG,
    production_history,
    read_rounds,
    rounds_folder,
    write_production,
    write_round,
)
from labelsync.records.rounds import ProductionRecord, RoundRecord
from labelsync.store.folder import locked
from labelsync.store.manifest import MANIFEST


def promote(config: str | Path = Path(NAME), *, release: str | None = None) -> ProductionRecord:
    """Put a round's model into production, whatever its gates said.

    Args:
        config: a labelsync.toml.
        release: name of the round; None = the newest that has a model.

    Raises:
        OptionError: no such round.
        ModelNotFound: the round has no model, or it is not published while there is a model repo.
        AuthError, ServiceError, PublishError: the Hub refuses.
    """
    read = read_config(config)
    with locked(rounds_folder(read)):
        return put_into_production(read, _chosen(read, release))


def rollback(config: str | Path = Path(NAME)) -> ProductionRecord:
    """Put the model back into production that was there before.

    Args:
        config: a labelsync.toml.

    Raises:
        OptionError: there was none before.
        ModelNotFound, AuthError, ServiceError, PublishError: as `promote`.
    """
    read = read_config(config)
    with locked(rounds_folder(read)):
        history = production_history(read)
        if len(history) < 2:
            now = f"{history[0]} is the first" if history else "no model was ever in production"
            raise OptionError(f"there is nothing to roll back to: {now}", hint="put one there with labelsync promote")
        record = _moved(read, _named(read, history[-2]), before=history[-1])
        write_production(read, history[:-1])
    return record


def put_into_production(config: Config, record: RoundRecord) -> ProductionRecord:
    """Move production to a round; the rounds' lock is held."""
    history = production_history(config)
    made = _moved(config, record, before=history[-1] if history else "")
    if not history or history[-1] != record.name:
        write_production(config, (*history, record.name))
    return made


def _moved(config: Config, record: RoundRecord, *, before: str) -> ProductionRecord:
    commit, moved = "", before != record.name
    if config.hub.model:
        published = record.stage("push-model")
        if published is None or published.outcome not in ("done", "unchanged"):
            raise ModelNotFound(
                f"the model of round {record.name} is not published",
                hint=f"run labelsync run --release {record.name} --from push-model",
            )
        from labelsync.hub.push import retag

        commit, moved = retag(config.hub.model, PRODUCTION_TAG, to=record.name)
    _mark(config, record.name)
    return ProductionRecord(
        production=record.name, before=before, repo_id=config.hub.model or "", commit=commit, unchanged=not moved
    )


def _mark(config: Config, name: str) -> None:
    """Say in each round.json whether its model is the one."""
    from dataclasses import replace

    for record in read_rounds(config):
        if record.production != (record.name == name):
            write_round(replace(record, production=record.name == name))


def _chosen(config: Config, release: str | None) -> RoundRecord:
    if release is not None:
        return _named(config, release)
    for record in reversed(read_rounds(config)):
        if (Path(record.path) / "model" / MANIFEST).is_file():
            return record
    raise ModelNotFound(f"no round in {rounds_folder(config)} has a model", hint="run labelsync run")


def _named(config: Config, name: str) -> RoundRecord:
    rounds = {record.name: record for record in read_rounds(config)}
    if name not in rounds:
        raise OptionError(f"there is no round {name!r}", hint=f"rounds: {', '.join(rounds) or 'none'}")
    if not (Path(rounds[name].path) / "model" / MANIFEST).is_file():
        raise ModelNotFound(f"round {name} has no model", hint=f"run labelsync run --release {name}")
    return rounds[name]
