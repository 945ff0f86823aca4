/*
 * adapter.h
 *	  What the run engine asks of a platform, and nothing more.
 *
 * An adapter turns items into a request and a response into outcomes.  It is
 * pure: no SPI, no sockets, no clock, no settings of the server.  Everything
 * it needs stands in its arguments, everything it returns is palloc'd in the
 * current memory context.  It never throws for anything that a platform sent;
 * ereport(ERROR) from an adapter means a bug of ours.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_ADAPTER_H
#define PGSYNC_ITSM_ADAPTER_H

#include "postgres.h"

struct json_object;

/* Effective settings of one connection: member name -> text, all present. */
typedef struct AdapterConnection
{
	const char		   *source_name; /* registered data source, e.g. GetInSync */
	const char		   *write_api;	 /* "ire" or "instance" */
	struct json_object *settings;	 /* object of strings; owned by the caller */
} AdapterConnection;

/* One item as pgsync_itsm.claim() returns it.  Absent texts are NULL. */
typedef struct AdapterItem
{
	int64		item_id;
	int64		claim_id;
	const char *entity_type;	/* application, ..., consumes, covers */
	const char *action;			/* CREATE, UPDATE, CLEAR, DELETE */
	const char *native_key;		/* the key that travels, e.g. application/<uuid> */
	const char *external_id;	/* sys_id if known */
	const char *external_table; /* class to write to */
	const char *payload;		/* JSON object of strings; NULL for relationships */
	const char *parent_external_id;
	const char *parent_table;
	const char *child_external_id;
	const char *child_table;
	const char *rel_type;	 /* name of the relationship type */
	const char *rel_type_id; /* its sys_id */
	int64		bundle;		 /* same number: one application's, better sent together; 0: nobody's */
	int			attempts;
	bool		in_doubt; /* sent before, answer never seen: look first */

	/*
	 * Keys of a relationship's ends.  An end without external id is an item
	 * that was given in the same call, before this one, under that native key.
	 */
	const char *parent_native_key;
	const char *child_native_key;
} AdapterItem;

typedef enum OutcomeKind
{
	OUTCOME_DONE,	   /* took effect (operation tells how) */
	OUTCOME_UNCHANGED, /* was so already */
	OUTCOME_RETRY,	   /* try again later */
	OUTCOME_DEAD,	   /* will not succeed as it is */
	OUTCOME_RECHECKED, /* in doubt, looked up, not there: create now */
	OUTCOME_RELEASE,   /* nothing was done about it: claim again, as if it had not been claimed */
	OUTCOME_AGAIN	   /* the same, though something may have been done: never an adapter's */
} OutcomeKind;

typedef struct AdapterOutcome
{
	OutcomeKind kind;
	const char *operation; /* create, update, delete, read, or NULL */
	const char *external_id;
	const char *external_table;
	const char *external_number;
	const char *error_class;   /* platform code or HTTP_nnn, NULL if none */
	const char *message;	   /* plain words, bounded, NULL if none */
	const char *not_taken;	   /* JSON object field -> what was sent, or NULL */
	const char *excerpt;	   /* the answer's part for this item, JSON, bounded, or NULL */
	int			retry_after_s; /* of RETRY, as the platform told for this item; 0: it did not */
} AdapterOutcome;

typedef struct AdapterLookup
{
	int64		 lookup_id;
	int			 generation;
	const char	*kind;
	const char	*target; /* class or column the kind needs, or "" */
	int			 nkeys;
	const char **keys;
	int			 nfields;
	const char **fields;	/* columns wanted back in attrs */
	const char **documents; /* of kind dry_run: the record of each key, JSON; else NULL */
} AdapterLookup;

/* One answer row; several rows for one key mean several matches. */
typedef struct AdapterLookupRow
{
	int			lookup; /* index into the lookups given */
	const char *key;	/* as it was asked */
	const char *external_id;
	const char *external_table;
	const char *label;
	const char *attrs; /* JSON object of strings or NULL */
} AdapterLookupRow;

typedef struct AdapterLookupResult
{
	OutcomeKind		 *kinds; /* per lookup: DONE, RETRY, DEAD, RELEASE */
	const char		**error_classes;
	const char		**messages;
	int				  nrows;
	AdapterLookupRow *rows;
} AdapterLookupResult;

typedef struct AdapterRequest
{
	const char *method;
	const char *api;  /* what a rate-limit rule tells apart, e.g. "batch"; a constant */
	char	   *path; /* with query, begins with '/' */
	char	   *body; /* NULL if none */
	size_t		body_len;
	const char *content_type;
	int			nused;		 /* the first nused items (lookups) travel in it */
	bool		writes;		 /* may change something there */
	int			subrequests; /* calls inside a Batch, else 0 */
	int			timeout_ms;	 /* for the whole transfer */
	int			follow_ups;	 /* requests that follow this one, as a rule */
	void	   *state;		 /* the adapter's own, where requests follow one another */
} AdapterRequest;

typedef struct AdapterResponse
{
	int			status;			 /* HTTP status; 0: no answer, see transport_class */
	const char *transport_class; /* RESOLVE, CONNECT, TLS, TIMEOUT, BROKEN, TOO_LARGE; NULL if answered */
	const char *transport_message;
	const char *content_type;
	const char *body; /* NUL-terminated, may contain NULs */
	size_t		body_len;
	long		retry_after_s; /* -1: none */
	bool		rate_headers;  /* a rate-limit rule spoke */
} AdapterResponse;

/* What became of the request as a whole. */
typedef enum ResponseVerdict
{
	RESPONSE_READABLE,		 /* outcomes stand for each item */
	RESPONSE_RETRY,			 /* all items again later: the platform is in no state to answer */
	RESPONSE_THROTTLED,		 /* the same, because we ask too much: nothing was done */
	RESPONSE_SPLIT,			 /* too much for one request, or one item spoils it: again in halves */
	RESPONSE_REAUTHENTICATE, /* token refused: fetch another, items again */
	RESPONSE_PAUSE,			 /* credentials or rights refused: pause the connection */
	RESPONSE_DEAD /* the request as such is refused: in halves, until the item that is to blame stands alone */
} ResponseVerdict;

/* A rate-limit rule that counted sub-requests of a batch, as their answers say. */
typedef struct AdapterRate
{
	const char *rule;	   /* its name there */
	int64		limit;	   /* an hour, -1: not told */
	int64		reset;	   /* UNIX seconds, -1: not told */
	int			counted;   /* sub-requests that it counted */
	bool		exhausted; /* it refused one of them */
} AdapterRate;

#define ADAPTER_MAX_RATES 4

/* What an answer says beside its outcomes.  Zeroed by the caller. */
typedef struct AdapterReport
{
	const char *error_class; /* of all verdicts but READABLE */
	const char *message;
	int			nrates;
	AdapterRate rates[ADAPTER_MAX_RATES];
} AdapterReport;

#define ADAPTER_MAX_KINDS 24

/* What may share a request: items of all these kinds, in the order of their ids. */
typedef struct AdapterLane
{
	const char *api;		 /* as in AdapterRequest */
	int			max_records; /* items that are no relationships, at the most (>= 1) */
	int			max_items;	 /* all of them (>= 1); 1: one call an item */
	int			nkinds;
	const char *entity_types[ADAPTER_MAX_KINDS];
	const char *actions[ADAPTER_MAX_KINDS];
	bool		ends_inside; /* a relationship may travel with the creation of its ends */
	bool		one_parent;	 /* a request writes to the parent of its relationships: it is one parent's, the only one */
} AdapterLane;

/*
 * A line of the table of outcomes: what the adapter makes of what comes back.
 * Texts are constants.
 */
typedef struct AdapterRule
{
	const char *layer; /* transport, http, limit, code, ... */
	const char *match; /* error class, status or code */
	const char
		*outcome; /* done, unchanged, retry, retry_after, reauthenticate, split, lookup_first, dead, pause_connection */
	const char *reason; /* in plain words */
	const char *hint;	/* what the user can do; NULL where there is nothing to do */
} AdapterRule;

typedef struct Adapter
{
	const char *platform; /* "servicenow", "haloitsm" */

	const AdapterRule *rules;
	int				   nrules;

	/* As in AdapterRequest: of build_lookup(), of it for kind dry_run (NULL: there is none), of build_probe(). */
	const char *lookup_api;
	const char *dry_run_api;
	const char *probe_api;

	/* What may travel with an item of this kind; the kind itself is among it. */
	void (*lane)(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt,
				 AdapterLane *lane);

	/*
	 * Items are of one lane and share in_doubt.  The first nused (>= 1) of them
	 * travel; what is left is given to the next call.
	 */
	void (*build)(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request);

	/* Fills outcomes[0..request->nused-1] when RESPONSE_READABLE. */
	ResponseVerdict (*read)(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request,
							const AdapterResponse *response, AdapterOutcome *outcomes, AdapterReport *report);

	/*
	 * What is to be sent behind this answer before anything can be said of the
	 * items; NULL: nothing ever is.  True: request is the next one, about the
	 * same items.  Neither this nor its state outlives the last answer.
	 */
	bool (*follow)(const AdapterConnection *conn, const AdapterItem *items, AdapterRequest *request,
				   const AdapterResponse *response);

	int (*max_lookups)(const AdapterConnection *conn);
	void (*build_lookup)(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups,
						 AdapterRequest *request);
	ResponseVerdict (*read_lookup)(const AdapterConnection *conn, const AdapterLookup *lookups,
								   const AdapterRequest *request, const AdapterResponse *response,
								   AdapterLookupResult *result, AdapterReport *report);

	/* The same as follow: where answers come in pages, or one by one. */
	bool (*follow_lookup)(const AdapterConnection *conn, const AdapterLookup *lookups, AdapterRequest *request,
						  const AdapterResponse *response);

	/* A cheap question that tells whether the platform is there again; READABLE if so. */
	void (*build_probe)(const AdapterConnection *conn, AdapterRequest *request);
	ResponseVerdict (*read_probe)(const AdapterConnection *conn, const AdapterResponse *response,
								  AdapterReport *report);

	/* Are repetitions of this write harmless without a look-up first? */
	bool (*idempotent)(const AdapterConnection *conn, const char *entity_type, const char *action);
} Adapter;

extern const Adapter servicenow_adapter;
extern const Adapter halo_adapter;

/* NULL if the platform has no adapter. */
extern const Adapter *adapter_for(const char *platform);

/* A setting's text; NULL if it is absent or empty. Borrowed from conn. */
extern const char *adapter_setting(const AdapterConnection *conn, const char *name);

#endif /* PGSYNC_ITSM_ADAPTER_H */
