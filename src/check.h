/*
 * check.h
 *	  What a platform adds to the connection test: questions and how to read
 *	  the answers.
 *
 * Pure like an adapter: a step fills a request, another function reads the
 * response and reports rows.  Sending is check.c's business.  All texts are
 * UTF-8.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_CHECK_H
#define PGSYNC_ITSM_CHECK_H

#include "postgres.h"
#include "nodes/pg_list.h"

#include "adapter.h"

typedef enum CheckVerdict
{
	CHECK_FAILED,
	CHECK_OK,
	CHECK_UNKNOWN /* could not be found out without writing */
} CheckVerdict;

typedef enum CheckPrepared
{
	CHECK_PREPARED,		 /* the platform takes what we send */
	CHECK_NOT_PREPARED,	 /* not yet, or it must be registered */
	CHECK_CANNOT_PREPARE /* detail and hint say why */
} CheckPrepared;

typedef struct CheckRow
{
	const char	*name;
	CheckVerdict verdict;
	const char	*detail;
	const char	*hint; /* NULL if there is nothing to repair */
} CheckRow;

/* One connection being looked at; palloc'd memory lasts as long as the look. */
typedef struct CheckContext
{
	const AdapterConnection *conn;
	const char				*auth_type;		/* oauth2, basic, api_key, client_certificate */
	void					*facts;			/* the platform's own, zeroed at the start */
	List					*rows;			/* of CheckRow * */
	bool					 stop;			/* what follows makes no sense */
	const char				*instance_name; /* who answered, NULL if it cannot be told */

	/* by probe and registration */
	CheckPrepared prepared;
	const char	 *detail;
	const char	 *hint;
} CheckContext;

/* build returns false if the step has nothing to ask. */
typedef struct CheckStep
{
	bool (*build)(CheckContext *context, AdapterRequest *request);
	void (*read)(CheckContext *context, const AdapterResponse *response);
} CheckStep;

typedef struct CheckPlatform
{
	const char		*platform;
	size_t			 facts_size;
	const CheckStep *steps; /* of itsm_test_connection, in order */
	int				 nsteps;
	CheckStep		 probe;		   /* is the instance prepared? writes nothing */
	CheckStep		 registration; /* prepares it */
	const CheckStep *checklist;	   /* what a customer should look at, as far as it can be looked up; or NULL */
} CheckPlatform;

extern const CheckPlatform servicenow_checks;
extern const CheckStep	   servicenow_checklist;

/* Adds a row; strings are borrowed. */
extern void check_report(CheckContext *context, const char *name, CheckVerdict verdict, const char *detail,
						 const char *hint);

#endif /* PGSYNC_ITSM_CHECK_H */
