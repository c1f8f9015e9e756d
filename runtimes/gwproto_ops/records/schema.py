"""The tables, and how they came to be what they are.

Both back-ends have the same, under names that go together with other tables in a shared database.
"""

from gwproto_ops.records.database import Database, Unavailable

# Each step brings the tables from one version to the next. A step that has been released is never changed.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE gwproto_records (
            id {id},
            at DOUBLE PRECISION NOT NULL,
            request_id TEXT NOT NULL,
            key TEXT NOT NULL,
            project_id TEXT NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            ending TEXT NOT NULL,
            status INTEGER NOT NULL,
            decision BIGINT,
            failed TEXT NOT NULL,
            line TEXT NOT NULL
        )""",
        "CREATE INDEX gwproto_records_project ON gwproto_records (project_id, id)",
        # An index costs as much as the row, one of random ids three times as much. What is frequent or late is found
        # soon without one.
        "CREATE INDEX gwproto_records_ending ON gwproto_records (ending, id) WHERE ending <> 'completed'",
        "CREATE INDEX gwproto_records_status ON gwproto_records (status, id) WHERE status <> 200",
        """CREATE TABLE gwproto_decisions (
            id BIGINT PRIMARY KEY,
            at BIGINT NOT NULL,
            considered {blob} NOT NULL
        )""",
        "CREATE INDEX gwproto_decisions_at ON gwproto_decisions (at)",
        """CREATE TABLE gwproto_rollups (
            span TEXT NOT NULL,
            slice TEXT NOT NULL,
            at BIGINT NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            project_id TEXT NOT NULL,
            figures TEXT NOT NULL,
            PRIMARY KEY (span, slice, at, provider, model, project_id)
        ) {clustered}""",
        # Sums of a batch, which wait to be added to the roll-ups together with those of others.
        """CREATE TABLE gwproto_pending (
            id {id},
            sums TEXT NOT NULL
        )""",
    ),
)


def migrate(database: Database) -> None:
    """Bring the tables to this version. Raises :class:`Unavailable`, also where a newer gwproto has made them."""
    with database.transaction():
        database.prepare()
        database.run("CREATE TABLE IF NOT EXISTS gwproto_schema (version INTEGER NOT NULL)")
        found = database.run("SELECT version FROM gwproto_schema")
        version = found[0][0] if found else 0
        if version > len(STEPS):
            raise Unavailable(
                f"made by a newer gwproto: its schema has version {version}, this one knows {len(STEPS)}"
            )
        if version == len(STEPS):
            return
        for step in STEPS[version:]:
            for statement in step:
                database.run(statement.format(**database.types))
        database.run("DELETE FROM gwproto_schema")
        database.run("INSERT INTO gwproto_schema VALUES (?)", (len(STEPS),))
