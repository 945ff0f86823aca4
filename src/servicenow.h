/*
 * servicenow.h
 *	  What the files of the ServiceNow adapter share among themselves.
 *
 * For adapter_servicenow.c and servicenow_*.c only; everybody else sees
 * adapter.h.  Texts inside are UTF-8; what leaves in an outcome, a row or a
 * message has been through json_to_server().
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_SERVICENOW_H
#define PGSYNC_ITSM_SERVICENOW_H

#include "postgres.h"
#include "lib/stringinfo.h"

#include "adapter.h"
#include "adapter_answer.h"
#include "json.h"

/* Sub-requests of one Batch: they run one after another within 30 s (servicenow-api 6). */
#define SERVICENOW_BATCH_SUBS 100

/* How long a transfer may take, in ms (servicenow-api 8). */
#define SERVICENOW_TABLE_TIMEOUT 90000
#define SERVICENOW_IRE_TIMEOUT 330000

/* ---- what comes back, and what it means: servicenow_outcomes.c ---- */

#define SERVICENOW_RULES 107

extern const AdapterRule  servicenow_rules[SERVICENOW_RULES];
extern const AdapterRule *servicenow_rule(const char *layer, const char *match);

/* ---- kinds of entities: adapter_servicenow.c ---- */

extern bool servicenow_is_ci(const char *entity_type);
extern bool servicenow_is_relation(const char *entity_type);

/* Does a relationship of this type go through Identification and Reconciliation? */
extern bool servicenow_relation_by_ire(const AdapterConnection *conn, const char *entity_type);

/* Is this a creation, not a write to a record that is known? */
extern bool servicenow_is_creation(const AdapterItem *item);

/* A whole number from the settings, between 1 and high; fallback if it is none. */
extern int servicenow_limit(const AdapterConnection *conn, const char *name, int fallback, int high);

/* ---- what an item wants to write: servicenow_payload.c ---- */

typedef struct ServicenowField
{
	const char *name;
	const char *value;
} ServicenowField;

typedef struct ServicenowPayload
{
	int				 nfields;
	ServicenowField *fields;		/* without control members and what must never travel */
	const char		*dropped;		/* names left out though they were given, or NULL */
	const char		*refusal_class; /* not NULL: the item must not be sent */
	const char		*refusal;
} ServicenowPayload;

extern void servicenow_payload_open(const AdapterConnection *conn, const AdapterItem *item, ServicenowPayload *payload);
extern const char *servicenow_payload_table(const AdapterConnection *conn, const AdapterItem *item);
extern const char *servicenow_payload_value(const ServicenowPayload *payload, const char *name);
extern void		   servicenow_payload_append(StringInfo buf, const ServicenowPayload *payload);

/* Is the item refused?  Then its outcome is set. */
extern bool servicenow_payload_refused(const ServicenowPayload *payload, AdapterOutcome *outcome);

/* ---- URLs and encoded queries: servicenow_query.c ---- */

extern void	 servicenow_query_encode(StringInfo url, const char *utf8);
extern bool	 servicenow_query_plain(const char *value);
extern bool	 servicenow_query_condition(StringInfo query, const char *field, const char *value);
extern bool	 servicenow_query_beginning(StringInfo query, const char *field, const char *value);
extern bool	 servicenow_query_was_cut(const char *got, const char *sent);
extern bool	 servicenow_query_same(const char *a, const char *b);
extern char *servicenow_query_folded(const char *text);
extern char *servicenow_query_table_url(const char *table, const char *sys_id);
extern char *servicenow_query_list_url(const char *table, const char *query, const char *fields, int limit);
extern bool	 servicenow_query_is_sys_id(const char *text);
extern bool	 servicenow_query_may_be_id(const char *text);

/* ---- what an answer says: servicenow_answer.c ---- */

typedef struct ServicenowAnswer
{
	ResponseVerdict		verdict;
	const AdapterRule  *rule;		 /* what the table has for error_class */
	const char		   *error_class; /* NULL if readable and 2xx */
	const char		   *message;
	struct json_object *root; /* NULL if there is no JSON in it */
} ServicenowAnswer;

extern void		   servicenow_answer_open(const AdapterResponse *response, ServicenowAnswer *answer);
extern void		   servicenow_answer_record(const AdapterResponse *response, const char *layer, bool in_batch,
											ServicenowAnswer *answer);
extern void		   servicenow_answer_whole(const AdapterResponse *response, const char *api, int nitems,
										   ServicenowAnswer *answer);
extern void		   servicenow_answer_unusable(ServicenowAnswer *answer, const char *message);
extern const char *servicenow_answer_envelope(struct json_object *root);
extern const char *servicenow_answer_table(const char *told, const char *known);
extern const char *servicenow_answer_value(struct json_object *record, const char *name);
extern const char *servicenow_answer_not_taken(const ServicenowPayload *payload, struct json_object *record,
											   const char **message);
extern void		   servicenow_answer_rule(AdapterOutcome *outcome, const char *layer, const char *error_class,
										  const char *message);

/* ---- Batch API: servicenow_batch.c ---- */

typedef struct ServicenowBatch
{
	StringInfoData body;
	int			   subs;
} ServicenowBatch;

typedef enum ServicenowSubState
{
	SUB_MISSING,	/* the answer does not mention it */
	SUB_UNSERVICED, /* not executed for want of time */
	SUB_SERVICED
} ServicenowSubState;

typedef struct ServicenowSub
{
	ServicenowSubState	state;
	AdapterResponse		reply;
	int64				total; /* X-Total-Count, -1 if it was not told */
	const char		   *rule;  /* X-RateLimit-Rule or NULL, -Limit, -Reset or -1 */
	int64				limit;
	int64				reset;
	struct json_object *raw; /* as it came, for the excerpt */
} ServicenowSub;

extern void servicenow_batch_begin(ServicenowBatch *batch);
extern void servicenow_batch_add(ServicenowBatch *batch, const char *method, const char *url, const char *body);
extern void servicenow_batch_end(ServicenowBatch *batch, AdapterRequest *request);
extern ServicenowSub *servicenow_batch_open(struct json_object *root, int nsubs, int *serviced, AdapterReport *report);

/* ---- what stands where in a payload: servicenow_cargo.c ---- */

typedef struct ServicenowIndex ServicenowIndex;

extern ServicenowIndex *servicenow_index_new(int size);
extern int				servicenow_index_find(const ServicenowIndex *index, const char *text);
extern void				servicenow_index_set(ServicenowIndex *index, const char *text, int number);

/* What becomes of an item; the later ones weigh more. */
typedef enum ServicenowState
{
	CARGO_TRAVELS,
	CARGO_WAITS,	/* an end of it was refused */
	CARGO_STRANDED, /* an end of it is neither known nor in the payload */
	CARGO_REFUSED	/* must not be sent */
} ServicenowState;

/* A CI of the payload. */
typedef struct ServicenowSlot
{
	const char *sys_id; /* NULL if it is to be made */
	const char *class_name;
	int			record;	  /* the item that writes it, -1: a reference only */
	int			position; /* in the payload, once the cargo is closed */
} ServicenowSlot;

typedef struct ServicenowPlace
{
	ServicenowState	  state;
	ServicenowPayload payload;
	int				  slot;	  /* of a record; of a relationship: its parent's */
	int				  child;  /* slot of its child */
	int				  number; /* among the records or among the relationships */
	int				  slots_before;
	int				  records_before;
	int				  relations_before;
} ServicenowPlace;

typedef struct ServicenowCargo
{
	const AdapterConnection *conn;
	const AdapterItem		*items;
	int						 nitems; /* loaded so far */
	ServicenowPlace			*places; /* of each of them */
	int						 nslots;
	ServicenowSlot			*slots;
	int						 nrecords;
	int						 nrelations;
	ServicenowIndex			*by_sys_id; /* slot */
	ServicenowIndex			*by_key;	/* item */
} ServicenowCargo;

extern ServicenowCargo *servicenow_cargo_new(const AdapterConnection *conn, const AdapterItem *items, int nitems);
extern ServicenowState	servicenow_cargo_load(ServicenowCargo *cargo);
extern void				servicenow_cargo_unload(ServicenowCargo *cargo, int n);
extern void				servicenow_cargo_close(ServicenowCargo *cargo);

/* ---- the ways of writing, and one of looking ---- */

extern void servicenow_ire_build(const AdapterConnection *conn, const AdapterItem *items, int nitems,
								 AdapterRequest *request);
extern void servicenow_ire_read(const ServicenowCargo *cargo, struct json_object *root, AdapterOutcome *outcomes);
extern bool servicenow_ire_operation(const char *operation, AdapterOutcome *outcome);
extern void servicenow_relation_read(const ServicenowCargo *cargo, struct json_object *root, struct json_object **cis,
									 AdapterOutcome *outcomes);

/* Of one result of IRE: its errors as an outcome; false if it has none. */
extern bool					servicenow_ire_errors(struct json_object *result, AdapterOutcome *outcome);
extern bool					servicenow_ire_by_native_key(struct json_object *result);
extern struct json_object **servicenow_ire_results(struct json_object *results, int ninputs);

/* Table API and CMDB Instance API, one write. */
typedef struct ServicenowCall
{
	const char *method;
	char	   *url;
	char	   *body; /* NULL if none */
} ServicenowCall;

extern void		   servicenow_table_call(const AdapterConnection *conn, const AdapterItem *item,
										 const ServicenowPayload *payload, ServicenowCall *call);
extern const char *servicenow_table_layer(const AdapterItem *item);
extern void		   servicenow_table_read(const AdapterConnection *conn, const AdapterItem *item,
										 const ServicenowPayload *payload, const ServicenowAnswer *answer,
										 struct json_object *raw, AdapterOutcome *outcome);
extern bool		   servicenow_instance_takes(const AdapterConnection *conn, const AdapterItem *item);
extern void		   servicenow_instance_call(const AdapterConnection *conn, const AdapterItem *item,
											const ServicenowPayload *payload, ServicenowCall *call);
extern void		   servicenow_instance_read(const AdapterItem *item, const ServicenowPayload *payload,
											const ServicenowAnswer *answer, AdapterOutcome *outcome);

extern char *servicenow_recheck_url(const AdapterConnection *conn, const AdapterItem *item,
									const ServicenowPayload *payload);
extern void	 servicenow_recheck_read(const AdapterConnection *conn, const AdapterItem *item,
									 const ServicenowPayload *payload, const ServicenowSub *sub,
									 AdapterOutcome *outcome);

extern void servicenow_lookup_build(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups,
									AdapterRequest *request);
extern ResponseVerdict servicenow_lookup_read(const AdapterConnection *conn, const AdapterLookup *lookups,
											  const AdapterRequest *request, const AdapterResponse *response,
											  AdapterLookupResult *result, AdapterReport *report);

extern void			   servicenow_dryrun_build(const AdapterConnection *conn, const AdapterLookup *lookup,
											   AdapterRequest *request);
extern ResponseVerdict servicenow_dryrun_read(const AdapterConnection *conn, const AdapterLookup *lookup,
											  const AdapterResponse *response, AdapterLookupResult *found,
											  AdapterReport *report);

/* A request that asks for one property: for when all items were refused before sending. */
extern void servicenow_request_nothing(AdapterRequest *request);

#endif /* PGSYNC_ITSM_SERVICENOW_H */
