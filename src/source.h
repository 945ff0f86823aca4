/*
 * source.h
 *	  SQL functions that run or check SQL that users wrote; called from SQL only.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_SOURCE_H
#define PGSYNC_ITSM_SOURCE_H

#include "postgres.h"
#include "fmgr.h"

/* pgsync_itsm.read_source: rows of a source, read as the connection's owner. */
extern PGDLLEXPORT Datum source_read(PG_FUNCTION_ARGS);

/* pgsync_itsm.check_source_sql: what columns a query would give that owner; runs nothing. */
extern PGDLLEXPORT Datum source_check_sql(PG_FUNCTION_ARGS);

/* pgsync_itsm.write_record: one row of a user's table, written as the connection's owner; NULL, or why not. */
extern PGDLLEXPORT Datum source_write(PG_FUNCTION_ARGS);

/* pgsync_itsm.changed_here: when the rows of records were changed last. */
extern PGDLLEXPORT Datum source_changed(PG_FUNCTION_ARGS);

/* pgsync_itsm.intake_read: a question about tables that an intake writes to, asked as the connection's owner. */
extern PGDLLEXPORT Datum source_intake_read(PG_FUNCTION_ARGS);

/* pgsync_itsm.intake_write: rows of such a table, written one by one; what became of each. */
extern PGDLLEXPORT Datum source_intake_write(PG_FUNCTION_ARGS);

/* pgsync_itsm.check_expression: throws unless the text is one expression. */
extern PGDLLEXPORT Datum source_check_expression(PG_FUNCTION_ARGS);

/*
 * SQL of users that follows is cancelled after so many milliseconds; if it
 * would not be, the process ends a few seconds later.  Not while
 * statement_timeout is in force.
 */
extern void source_begin_limit(int limit_ms);
extern void source_end_limit(void);

#endif /* PGSYNC_ITSM_SOURCE_H */
