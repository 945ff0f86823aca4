/*
 * aside.c
 *	  Statements that need a database for themselves: its worker steps aside.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE
 * DATABASE ... TEMPLATE refuse a database that anybody is connected to; they
 * wait a few seconds for it to become free.  A worker that serves it is always
 * connected, so it is asked to end before they look, and comes back when they
 * are through, if the database is still in the list by its name.  What they
 * change, and CREATE DATABASE, the launcher is told at commit; of DROP
 * EXTENSION, the worker, and of COMMIT PREPARED: what such a transaction queued
 * was seen by nobody before, and no callback runs in it any more.
 *
 * Must not: decide whether such a statement is allowed; end a worker for
 * somebody whose statement would be refused anyway.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "aside.h"
#include "compat.h"
#include "launcher.h"

static ProcessUtility_hook_type prev_process_utility = NULL;

static char *
option_value(List *options, const char *name)
{
	ListCell *cell;

	foreach (cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

static bool
concerns_databases(Node *statement)
{
	return IsA(statement, CreatedbStmt) || IsA(statement, DropdbStmt) || IsA(statement, AlterDatabaseStmt) ||
		   (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_DATABASE);
}

/* The database that nobody may be connected to; NULL: none. */
static const char *
needed_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->subname;
		case T_CreatedbStmt:
			return option_value(((CreatedbStmt *) statement)->options, "template");
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) statement)->options, "tablespace"))
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		default:
			return NULL;
	}
}

static void
clear_database(Node *statement)
{
	const char *name = needed_database(statement);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && database != MyDatabaseId && compat_owns_database(database))
		launcher_step_aside(database);
}

static void
call_next(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
		  ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (prev_process_utility)
		prev_process_utility(statement, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, dest, completion);
}

/* Is there more for this database's worker to see when the statement is through? */
static bool
concerns_worker(Node *statement)
{
	if (IsA(statement, TransactionStmt))
		return ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
	return IsA(statement, DropStmt) && ((DropStmt *) statement)->removeType == OBJECT_EXTENSION;
}

static void
process_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	bool concerned = concerns_databases(statement->utilityStmt);

	if (concerned)
		clear_database(statement->utilityStmt);
	call_next(statement, query, read_only_tree, context, params, environment, dest, completion);
	if (concerned)
		launcher_look_at_commit();
	if (concerns_worker(statement->utilityStmt))
		launcher_wake_at_commit();
}

void
aside_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
