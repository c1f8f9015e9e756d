"""The table: one row, one situation. Runners and goldens are beside it."""

from scenarios import bad, clients, flights, formats, good, hedges

TABLE = (
    *good.REQUESTS,
    *good.SHAPES,
    *good.FRAMING,
    *formats.NATIVE,
    *bad.BEFORE_CONTENT,
    *bad.STATUSES,
    *bad.AFTER_CONTENT,
    *bad.TIMES,
    *clients.BAD_REQUESTS,
    *clients.OTHER_ENDPOINTS,
    *clients.LEAVING,
    *clients.LIMITS,
    *hedges.HEDGES,
    *flights.FLIGHTS,
)

assert len({scenario.name for scenario in TABLE}) == len(TABLE), "names are file names"
