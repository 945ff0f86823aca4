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

/* Something that publishing needs there, and what became of it. */
typedef struct CheckThing
{
	const char *kind; /* asset type, field, status, ... */
	const char *name;
	const char *class_name;	  /* it is needed for; NULL: in general */
	const char *alternatives; /* labels that do as well, separated by | */
	int64		id;			  /* 0: it is not there */
	const char *state;		  /* found, missing, made, refused; NULL: not known yet */
	const char *detail;
} CheckThing;

/* An id to be kept with the connection; 0: what is kept is wrong. */
typedef struct CheckId
{
	const char *name;
	int64		id;
} CheckId;

/* One connection being looked at; palloc'd memory lasts as long as the look. */
typedef struct CheckContext
{
	const AdapterConnection *conn;
	const char				*auth_type;		/* oauth2, basic, api_key, client_certificate */
	void					*facts;			/* the platform's own, zeroed at the start */
	List					*rows;			/* of CheckRow * */
	bool					 stop;			/* what follows makes no sense */
	const char				*instance_name; /* who answered, NULL if it cannot be told */
	const char				*address;		/* of the connection */
	const char				*token_address;
	const char				*granted_scope; /* of the token, NULL: the platform did not say */
	List					*ids;			/* of CheckId *, to be kept */

	/* by the setup */
	List *things;	/* of CheckThing * */
	bool  apply;	/* make what is missing */
	List *settings; /* names and values in turn, to be kept */

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
	bool repeats; /* until it has nothing to ask any more */
} CheckStep;

typedef struct CheckPlatform
{
	const char		*platform;
	size_t			 facts_size;
	const CheckStep *steps; /* of itsm_test_connection, in order */
	int				 nsteps;
	CheckStep		 probe;		   /* is the instance prepared? writes nothing */
	CheckStep		 registration; /* prepares it */
	const CheckStep *greeting;	   /* what is asked before there is a token; or NULL */
	const CheckStep *setup;		   /* of itsm_halo_setup; NULL: the platform has none */
	int				 nsetup;
	const CheckStep *checklist; /* what a customer should look at, as far as it can be looked up; or NULL */
} CheckPlatform;

extern const CheckPlatform servicenow_checks;
extern const CheckPlatform halo_checks;
extern const CheckStep	   servicenow_checklist;

#define HALO_SETUP_STEPS 12
extern const CheckStep halo_setup_steps[HALO_SETUP_STEPS];

/* Keeps an id with the connection; strings are borrowed. */
extern void check_keep_id(CheckContext *context, const char *name, int64 id);

/* Adds a row; strings are borrowed. */
extern void check_report(CheckContext *context, const char *name, CheckVerdict verdict, const char *detail,
						 const char *hint);

#endif /* PGSYNC_ITSM_CHECK_H */
