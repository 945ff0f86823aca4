# Three namespaces with a connection each; users of each of them in four roles: none, viewer, operator, admin; and staff
# of the platform, who see all.  Every relation and every function of the API, as pg_depend knows them, is tried as every
# one of these users, on what is his and on what is another namespace's.
# Compares with the two tables of doc/security.md: a member of the extension that is not in them, or not as they say,
# fails; so does a call on another namespace's that is told apart from a call on what does not exist.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my @levels = qw(none viewer operator admin);

# ---------------------------------------------------------------- what the documentation says
my (%relation_says, %function_says);
for my $line (split /\n/, slurp_file(PgsyncItsm::top_dir() . '/doc/security.md'))
{
	next unless $line =~ /^\| `((?:integration|itsm)_\w+)` \| (.*) \|$/;
	my ($name, @cells) = ($1, split / \| /, $2);
	my %says = map { $levels[$_] => $cells[$_] eq 'yes' ? 1 : 0 } 0 .. 3;
	($name =~ /^itsm_(?!stat_)/ ? \%function_says : \%relation_says)->{$name} = \%says;
}

# ---------------------------------------------------------------- the three namespaces
my $node = new_cluster(name => 'matrix', databases => '');
load_getinsync($node, 'postgres');
$node->safe_psql('postgres', 'SELECT getinsync_generate(applications => 3)');
my @tenants = (
	{ ns => '11111111-1111-4111-8111-111111111111', user => 'eeeeeeee-0001-4000-8000-000000000001' },
	{ ns => '22222222-2222-4222-8222-222222222222', user => 'eeeeeeee-0002-4000-8000-000000000001' },
	{ ns => '33333333-3333-4333-8333-333333333333', user => 'eeeeeeee-0003-4000-8000-000000000001' });
$node->safe_psql('postgres', <<"SQL");
INSERT INTO namespace_users (namespace_id, user_id, role) VALUES ('$tenants[2]{ns}', '$tenants[2]{user}', 'admin');
INSERT INTO user_sessions (user_id, current_namespace_id) VALUES ('$tenants[2]{user}', '$tenants[2]{ns}');
SELECT itsm_secure_getinsync();
CREATE ROLE tenant_none IN ROLE authenticated;
CREATE ROLE tenant_viewer IN ROLE authenticated;
CREATE ROLE tenant_operator IN ROLE authenticated;
CREATE ROLE tenant_admin IN ROLE authenticated;
SELECT itsm_grant('tenant_viewer', 'viewer'), itsm_grant('tenant_operator', 'operator'), itsm_grant('tenant_admin', 'admin');
CREATE SCHEMA matrix;
GRANT USAGE, CREATE ON SCHEMA matrix TO PUBLIC;
-- what a call says, and nothing that it did
CREATE FUNCTION matrix.try(statement text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'MX000';
EXCEPTION WHEN SQLSTATE 'MX000' THEN
    RETURN 'ok';
WHEN others THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || ' ' || SQLERRM || coalesce(' HINT ' || nullif(hint, ''), '');
END \$\$;
SQL

# A line of psql as a user of a namespace, in a role.
sub as_user
{
	my ($role, $user, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"SET client_min_messages = error; SET request.jwt.claims = '{\"sub\": \"$user\"}'; SET ROLE tenant_$role; $sql", on_error_stop => 1);
	return $rc == 0 ? $out : "ERROR $err";
}

# numbers that stand for nothing else in a message
$node->safe_psql('postgres', "SELECT setval('integration_runs_id_seq', 500000), setval('integration_matches_id_seq', 600000), setval('integration_conflicts_id_seq', 700000)");

# Each connection is made by the admin of its namespace, as in life.
for my $t (@tenants)
{
	$t->{conn} = as_user('admin', $t->{user}, "SELECT itsm_connect_servicenow('$t->{ns}', 'http://127.0.0.1:1', username => 'u', password => 'p', name => 'first')");
	like($t->{conn}, qr/^[0-9a-f-]{36}$/, 'an admin makes the first connection of a namespace');
	is(as_user('admin', $t->{user}, "SELECT itsm_activate('$t->{conn}')"), '', 'and turns it on');
	$node->safe_psql('postgres', <<"SQL");
INSERT INTO integration_runs (namespace_id, connection_id, kind, status, phase, planned_at, finished_at)
VALUES ('$t->{ns}', '$t->{conn}', 'preview', 'planned', 'finished', now(), NULL), ('$t->{ns}', '$t->{conn}', 'publish', 'done', 'finished', now(), now());
SQL
	($t->{planned}, $t->{done}) = map { $node->safe_psql('postgres', "SELECT id FROM integration_runs WHERE connection_id = '$t->{conn}' AND status = '$_'") } qw(planned done);
	$node->safe_psql('postgres', <<"SQL");
INSERT INTO integration_run_steps (run_id, namespace_id, step, ord, title) VALUES ($t->{planned}, '$t->{ns}', '4', 40, 'applications');
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, payload)
VALUES ($t->{planned}, '$t->{conn}', '$t->{ns}', 40, '4', 'application', gen_random_uuid(), 'application/x', 'x', 'CREATE', 'planned', '{"name": "x"}');
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, sync_direction)
VALUES ('$t->{conn}', '$t->{ns}', 'application', gen_random_uuid(), 'application/y', md5('y'), 'published');
INSERT INTO integration_sync_log (connection_id, namespace_id, run_id, operation, entity_type, status, error_class)
VALUES ('$t->{conn}', '$t->{ns}', $t->{done}, 'create', 'application', 'error', 'HTTP_500');
INSERT INTO integration_queue (relation, op, keys, namespace_id) VALUES (0, 'U', '{x}', '$t->{ns}');
INSERT INTO integration_sources (namespace_id, connection_id, entity_type, query)
SELECT '$t->{ns}', '$t->{conn}', entity_type, query FROM integration_sources WHERE connection_id IS NULL AND entity_type = 'contact';
INSERT INTO integration_watches (namespace_id, relation, entity_type, key_column) VALUES ('$t->{ns}', 'table of $t->{ns}', 'contact', 'id');
INSERT INTO integration_field_mappings (namespace_id, connection_id, platform, entity_type, target_field, expression, ord)
VALUES ('$t->{ns}', '$t->{conn}', 'servicenow', 'application', 'u_note', 'name', 1000);
INSERT INTO integration_references (connection_id, namespace_id, kind, key) VALUES ('$t->{conn}', '$t->{ns}', 'user', 'x');
INSERT INTO integration_matches (connection_id, namespace_id, entity_type, entity_id, native_key, entity_name, external_id, external_table, external_name, score, reason)
VALUES ('$t->{conn}', '$t->{ns}', 'application', gen_random_uuid(), 'application/z', 'z', md5('z'), 'cmdb_ci_business_app', 'z', 0.95, 'exact name');
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, target, attrs)
SELECT '$t->{conn}', '$t->{ns}', v.target, md5(v.target), v.target, '{}' FROM unnest(ARRAY['cmdb_ci_business_app', 'cmdb_ci_server', 'sys_user', 'cmdb_rel_ci']) AS v(target);
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, attrs) VALUES ('$t->{conn}', '$t->{ns}', 'cmdb_ci_business_app', md5('y'), '{"name": "x"}');
INSERT INTO integration_watermarks (connection_id, namespace_id, external_table, run_id, started_at) VALUES ('$t->{conn}', '$t->{ns}', 'sys_user', 1, now());
INSERT INTO integration_writers (connection_id, namespace_id, entity_type, relation, key_column, columns) VALUES ('$t->{conn}', '$t->{ns}', 'contact', 'public.contacts', 'id', '{"phone": "phone"}');
INSERT INTO integration_intakes (connection_id, namespace_id, kind, relation, key_column, columns) VALUES ('$t->{conn}', '$t->{ns}', 'server', 'public.servers', 'id', '{"name": "name"}');
INSERT INTO integration_intake_map (connection_id, namespace_id, external_id, kind) VALUES ('$t->{conn}', '$t->{ns}', md5('server'), 'server');
INSERT INTO integration_conflicts (connection_id, namespace_id, entity_type, entity_id, field, theirs)
SELECT m.connection_id, m.namespace_id, m.entity_type, m.entity_id, 'name', 'x' FROM integration_sync_map AS m WHERE m.connection_id = '$t->{conn}';
INSERT INTO integration_inbox (connection_id, namespace_id, origin) VALUES ('$t->{conn}', '$t->{ns}', 'poll');
INSERT INTO integration_entitlements (tier, platform, namespace_id) VALUES ('tier of $t->{ns}', 'servicenow', '$t->{ns}');
SQL
	$t->{conflict} = $node->safe_psql('postgres', "SELECT id FROM integration_conflicts WHERE connection_id = '$t->{conn}'");
	$t->{match} = $node->safe_psql('postgres', "SELECT id FROM integration_matches WHERE connection_id = '$t->{conn}'");
}
# what does not exist at all
my $nothing = { ns => '99999999-9999-4999-8999-999999999999', conn => '99999999-9999-4999-8999-999999999998', planned => 987654, done => 987654, match => 987654, conflict => 987654 };

# ---------------------------------------------------------------- relations
my $member = "FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pgsync_itsm'
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'";
my %relations = map { (split /\|/)[0] => (split /\|/)[1] } split /\n/, $node->safe_psql('postgres',
	"SELECT c.oid::regclass, c.relkind FROM pg_class AS c WHERE c.relkind IN ('r', 'v') AND c.oid IN (SELECT d.objid $member AND d.classid = 'pg_class'::regclass) ORDER BY 1");
my @api = grep { !/^pgsync_itsm\./ } sort keys %relations;
is_deeply([ sort keys %relation_says ], \@api, 'doc/security.md names every relation of the API, and no other');

for my $t (@tenants)
{
	for my $level (@levels)
	{
		my (@wrong, $sql);
		for my $name (sort keys %relations)
		{
			my $column = $name =~ /^integration_/ ? "count(*) FILTER (WHERE namespace_id = ''$t->{ns}'') || ''/'' || count(*) FILTER (WHERE namespace_id <> ''$t->{ns}'')" : 'count(*)';
			$sql .= "SELECT '$name', 'SELECT', matrix.try('CREATE TABLE matrix.seen AS SELECT $column AS n FROM $name');";
			next if $relations{$name} eq 'v';
			my ($first) = split /\n/, $node->safe_psql('postgres', "SELECT attname FROM pg_attribute WHERE attrelid = '$name'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '' ORDER BY attnum");
			$sql .= "SELECT '$name', 'INSERT', matrix.try('INSERT INTO $name DEFAULT VALUES');"
			  . "SELECT '$name', 'UPDATE', matrix.try('UPDATE $name SET $first = $first');"
			  . "SELECT '$name', 'DELETE', matrix.try('DELETE FROM $name');"
			  . "SELECT '$name', 'TRUNCATE', matrix.try('TRUNCATE $name');"
			  . "SELECT '$name', 'LOCK', matrix.try('LOCK TABLE $name IN ROW EXCLUSIVE MODE');"
			  . "SELECT '$name', 'FOR UPDATE', matrix.try('SELECT FROM $name FOR UPDATE');";
		}
		my $rows = 0;
		for my $line (split /\n/, as_user($level, $t->{user}, $sql))
		{
			my ($name, $what, $said) = split /\|/, $line, 3;
			$rows++;
			my $may = $what eq 'SELECT' && $relation_says{$name}{$level};
			push @wrong, $line unless $may ? $said eq 'ok' : $said =~ /^42501 permission denied for (?:table|view|schema)/;
		}
		cmp_ok($rows, '>', 100, "$level of $t->{ns}: " . $rows . ' statements on relations');
		is_deeply(\@wrong, [], 'none does more than the table says, and none less');
	}
	# exactly the rows of his own, and some of them in each
	my $count = join ' UNION ALL ', map {
		"SELECT '$_', count(*) FILTER (WHERE namespace_id = '$t->{ns}'), count(*) FILTER (WHERE namespace_id <> '$t->{ns}') FROM $_" } grep { /^integration_/ } @api;
	my %all = map { my ($n, $own) = split /\|/; ($n => $own) } split /\n/, $node->safe_psql('postgres', $count);
	is_deeply([ grep { !$all{$_} } sort keys %all ], [], 'every relation holds something of it');
	for my $level (@levels[ 1 .. 3 ])
	{
		my %seen = map { my ($n, $own, $others) = split /\|/; ($n => "$own and $others") } split /\n/, as_user($level, $t->{user}, $count);
		is_deeply(\%seen, { map { $_ => "$all{$_} and 0" } keys %all }, "a $level sees all of his, and nothing of others");
	}
}
my $all_of_three = 'SELECT count(DISTINCT namespace_id) FROM integration_connections';
is(as_user('viewer', 'eeeeeeee-0000-4000-8000-000000000001', $all_of_three), '3', 'staff of the platform sees all three');
is(as_user('viewer', 'eeeeeeee-0001-4000-8000-000000000004', $all_of_three), '0', 'who has left sees none');
is(as_user('viewer', 'nobody', 'SELECT 1') eq '1' && $node->safe_psql('postgres', "SET ROLE tenant_viewer; $all_of_three"), '0', 'who is nobody sees none');

# ---------------------------------------------------------------- functions
# What is called, on what; and, where it is not without an error for whoever may: the SQLSTATE that it gets to.
my %calls = (
	itsm_plan             => [ 'SELECT itsm_plan({planned})' ],
	itsm_explain          => [ 'SELECT itsm_explain({planned})' ],
	itsm_readiness        => [ "SELECT itsm_readiness('{ns}')" ],
	itsm_readiness_detail => [ "SELECT itsm_readiness_detail('{ns}', 'application.name')" ],
	itsm_graph            => [ "SELECT itsm_graph('{ns}')" ],
	itsm_outcomes         => [ 'SELECT itsm_outcomes()' ],
	itsm_drift            => [ "SELECT 1 / (count(*) > 0)::integer FROM itsm_drift('{ns}', '{conn}')" ],
	itsm_publish          => [ "SELECT itsm_publish('{ns}')" ],
	itsm_preview          => [ "SELECT itsm_preview('{ns}')" ],
	itsm_match            => [ "SELECT itsm_match('{ns}')" ],
	itsm_subscribe        => [ "SELECT itsm_subscribe('{ns}')", '55000' ],
	itsm_resolve_conflict => [ "SELECT itsm_resolve_conflict({conflict}, 'ours')" ],
	itsm_resolve_conflicts => [ "SELECT 1 / (itsm_resolve_conflicts('{ns}', 'ours') = 1)::integer" ],
	itsm_apply            => [ 'SELECT itsm_apply({planned})' ],
	itsm_cancel           => [ 'SELECT itsm_cancel({planned})' ],
	itsm_retry            => [ 'SELECT itsm_retry({done})' ],
	itsm_requeue          => [ 'SELECT itsm_requeue({done})' ],
	itsm_rollback         => [ 'SELECT itsm_rollback({done})' ],
	itsm_accept_match     => [ 'SELECT itsm_accept_match({match})' ],
	itsm_reject_match     => [ 'SELECT itsm_reject_match({match})' ],
	itsm_accept_matches   => [ "SELECT 1 / (itsm_accept_matches(0, '{ns}') = 1)::integer", undef, 'no rows' ],
	itsm_connect_halo => [ "SELECT itsm_connect_halo('{ns}', 'https://127.0.0.1:1/api', client_id => 'i', client_secret => 's')" ],
	itsm_halo_setup => [ "SELECT itsm_halo_setup('{conn}')", '0A000' ],
	itsm_connect_servicenow => [ "SELECT itsm_connect_servicenow('{ns}', 'http://127.0.0.1:1', client_id => 'i', client_secret => 's')" ],
	itsm_disconnect       => [ "SELECT itsm_disconnect('{conn}')" ],
	itsm_activate         => [ "SELECT itsm_activate('{conn}')" ],
	itsm_adopt            => [ "SELECT itsm_adopt('{conn}')" ],
	itsm_test_connection  => [ "SELECT itsm_test_connection('{conn}')" ],
	itsm_prepare_instance => [ "SELECT itsm_prepare_instance('{conn}')", '08006' ],
	itsm_set              => [ "SELECT itsm_set('{conn}', 'batch_items', '10')" ],
	itsm_schedule         => [ "SELECT itsm_schedule('{conn}', 'daily', '06:00, 18:00', 'UTC', '07:00', 'Sat,Sun 22:00-06:00')" ],
	itsm_set_source       => [ "SELECT itsm_set_source('{conn}', 'contact', NULL)" ],
	itsm_set_writer       => [ "SELECT itsm_set_writer('{conn}', 'contact', NULL, NULL, NULL)" ],
	itsm_set_intake       => [ "SELECT itsm_set_intake('{conn}', 'server', NULL, NULL, NULL)" ],
	itsm_set_filter       => [ "SELECT itsm_set_filter('{conn}', 'application', 'name IS NOT NULL')" ],
	itsm_set_mapping      => [ "SELECT itsm_set_mapping('{conn}', 'application', 'u_x', 'name')" ],
	itsm_drop_mapping     => [ "SELECT itsm_drop_mapping('{conn}', 'application', 'u_note')" ],
	itsm_set_scope        => [ "SELECT itsm_set_scope('{ns}', 'application_service')" ],
	itsm_update_set       => [ "SELECT itsm_update_set('{conn}')" ],
	itsm_checklist        => [ "SELECT itsm_checklist('{conn}', false)" ],
	itsm_attach_getinsync => ['SELECT itsm_attach_getinsync()'],
	itsm_detach_getinsync => ['SELECT itsm_detach_getinsync()'],
	itsm_watch            => ["SELECT itsm_watch('public.contacts', 'contact', 'id')"],
	itsm_unwatch          => ["SELECT itsm_unwatch('public.contacts')"],
	itsm_secure           => ["SELECT itsm_secure('true')"],
	itsm_secure_getinsync => ['SELECT itsm_secure_getinsync()'],
	itsm_grant            => ["SELECT itsm_grant('tenant_viewer', 'admin')"],
	itsm_forget_namespace => ["SELECT itsm_forget_namespace('{ns}')"]);
# a procedure that commits cannot be tried and taken back; it is called by itself
my %alone = (itsm_wait => 'CALL itsm_wait({done})');

my @functions = split /\n/, $node->safe_psql('postgres',
	"SELECT DISTINCT p.proname FROM pg_proc AS p WHERE p.proname ~ '^itsm_' AND p.pronamespace <> 'pgsync_itsm'::regnamespace
	   AND p.oid IN (SELECT d.objid $member AND d.classid = 'pg_proc'::regclass) ORDER BY 1");
is_deeply([ sort keys %function_says ], \@functions, 'doc/security.md names every function of the API, and no other');
is_deeply([ sort keys %calls, keys %alone ], \@functions, 'and this test knows how to call each of them');

sub filled
{
	my ($call, $on) = @_;
	$call =~ s/\{(\w+)\}/$on->{$1}/g;
	return $call;
}

# what was said, without the ids that were given
sub without
{
	my ($said, $on) = @_;
	$said =~ s/\b\Q$on->{$_}\E\b/<$_>/g for qw(ns conn match conflict planned done);
	$said =~ s/<planned>|<done>|<match>|<conflict>/<number>/g;
	return $said;
}

for my $n (0 .. $#tenants)
{
	my ($own, $other) = ($tenants[$n], $tenants[ ($n + 1) % 3 ]);
	for my $level (@levels)
	{
		my $sql = '';
		for my $name (sort keys %calls)
		{
			$sql .= "SELECT '$name', '$_->[0]', matrix.try(" . PgsyncItsm::sql_literal(filled($calls{$name}[0], $_->[1])) . ');'
			  for [ own => $own ], [ other => $other ], [ nothing => $nothing ];
		}
		my (%said, @wrong);
		for my $line (split /\n/, as_user($level, $own->{user}, $sql))
		{
			my ($name, $whose, $said) = split /\|/, $line, 3;
			$said{$name}{$whose} = without($said, { own => $own, other => $other, nothing => $nothing }->{$whose});
		}
		for my $name (sort keys %calls)
		{
			my ($call, $state, $quiet) = @{ $calls{$name} };
			my $said = $said{$name};
			if (!$function_says{$name}{$level})
			{
				push @wrong, map { "$name $_: $said->{$_}" } grep { $said->{$_} !~ /^42501 permission denied for (?:function|schema)/ } sort keys %$said;
				next;
			}
			push @wrong, "$name own: $said->{own}" unless $state ? $said->{own} =~ /^$state/ : $said->{own} eq 'ok';
			next unless $call =~ /\{/;
			push @wrong, "$name other: $said->{other}, nothing: $said->{nothing}" unless $said->{other} eq $said->{nothing};
			push @wrong, "$name other: $said->{other}" unless $quiet ? $said->{other} =~ /^22012/ : $said->{other} =~ /^42704 .* does not exist/;
		}
		is_deeply(\@wrong, [], "$level of $own->{ns}: " . keys(%calls) . ' functions on his, another\'s and on what is not there');
		for my $name (sort keys %alone)
		{
			my $on_own = as_user($level, $own->{user}, filled($alone{$name}, $own));
			my ($on_other, $on_nothing) = map { without(as_user($level, $own->{user}, filled($alone{$name}, $_)), $_) } $other, $nothing;
			if ($function_says{$name}{$level})
			{
				is($on_own, '', "$level: $name");
				like($on_other, qr/does not exist/, "$level: $name of another namespace");
				is($on_other, $on_nothing, 'as of what is not there');
			}
			else
			{
				like($_, qr/permission denied/, "$level: $name is not for him") for $on_own, $on_other;
			}
		}
	}
}

# ---------------------------------------------------------------- an id of another among one's own
# What is said of another's must be what is said of nothing, also where it is the second thing that a call names.
my @mixed = (
	"SELECT count(*) FROM itsm_publish('{own}', connection_id => '{conn}')", "SELECT count(*) FROM itsm_preview('{own}', connection_id => '{conn}')",
	"SELECT count(*) FROM itsm_match('{own}', connection_id => '{conn}')", "SELECT itsm_accept_matches(0, NULL, '{conn}')", "SELECT itsm_accept_matches(0, '{own}', '{conn}')",
	"SELECT count(*) FROM itsm_publish('{own}', applications => ARRAY['{app}'::uuid])", "SELECT itsm_graph('{own}', '{app}')", "SELECT itsm_graph('{ns}', '{app}')",
	"SELECT itsm_requeue({done}, entity_id => '{app}')", "SELECT itsm_reject_match({match}, create_new => true)", "SELECT itsm_rollback({done}, 'delete')", "SELECT itsm_rollback({planned}, 'nothing')",
	"SELECT itsm_connect_servicenow('{ns}', 'http://127.0.0.1:1', username => 'u', password => 'p', name => 'first')", "SELECT itsm_connect_servicenow('{ns}', 'no address')",
	"SELECT itsm_set('{conn}', 'no such setting', 'x')", "SELECT itsm_set_source('{conn}', 'no such type', 'x')", "SELECT itsm_set_filter('{conn}', 'no such type', 'x')", "SELECT itsm_set_mapping('{conn}', 'no such type', 'x', 'y')",
	"SELECT itsm_schedule('{conn}', 'never')", "SELECT itsm_activate('{conn}', NULL)", "SELECT itsm_set_scope('{ns}', 'no such scope')", "SELECT itsm_graph('{ns}', format => 'no such format')",
	"SELECT itsm_explain({planned}, 'no such format')", "SELECT itsm_readiness_detail('{ns}', 'no such check')", "SELECT itsm_update_set('{conn}', version => -1)", "SELECT itsm_requeue({done}, 'no such class')");
sql_as_owner(<<'SQL');
-- what a call gives or says, and nothing that it did
CREATE FUNCTION matrix.result(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
    given text;
BEGIN
    EXECUTE format('SELECT string_agg(t::text, E''\n'' ORDER BY t::text) FROM (%s) AS t', statement) INTO given;
    RAISE EXCEPTION USING ERRCODE = 'MX000', MESSAGE = coalesce(given, 'nothing');
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN translate(CASE SQLSTATE WHEN 'MX000' THEN 'gives ' || SQLERRM ELSE concat_ws(' ', SQLSTATE, SQLERRM, detail, hint) END, E'\n|', '  ');
END $$;
SQL

sub sql_as_owner { return $node->safe_psql('postgres', $_[0]) }

for my $t (@tenants)
{
	$t->{own} = $t->{ns};
	$t->{app} = sql_as_owner("SELECT a.id FROM applications AS a JOIN workspaces AS w ON w.id = a.workspace_id WHERE w.namespace_id = '$t->{ns}' ORDER BY 1 LIMIT 1") || sql_as_owner("SELECT gen_random_uuid()");
	$t->{secret} = sql_as_owner("SELECT password_vault_id FROM integration_connections WHERE id = '$t->{conn}'");
}
$nothing->{app} = $nothing->{secret} = '99999999-9999-4999-8999-999999999997';

# Each of the calls as a user of the first namespace, on what is his, another's, and nothing.
sub compare
{
	my ($level, @calls) = @_;
	my ($own, $other) = @tenants[0, 1];
	my $on = { own => $own, other => { %$other, own => $own->{ns} }, nothing => { %$nothing, own => $own->{ns} } };
	my $sql = '';
	for my $n (0 .. $#calls)
	{
		$sql .= "SELECT $n, '$_', matrix.result(" . PgsyncItsm::sql_literal(filled($calls[$n], $on->{$_})) . ');' for qw(own other nothing);
	}
	my @said;
	for my $line (split /\n/, as_user($level, $own->{user}, $sql))
	{
		my ($n, $whose, $words) = split /\|/, $line, 3;
		for my $id (@{ $on->{$whose} }{qw(ns conn app secret match planned done)})
		{
			my $plain = $id =~ s/-//gr;
			$words =~ s/\b\Q$id\E\b|(?<![0-9a-f])\Q$plain\E\b/<id>/g;
		}
		$words =~ s/\b\Q$own->{ns}\E\b/<own>/g if $whose ne 'own';
		# a run that was queued, and taken back
		$words =~ s/\(5000\d\d\)/(run)/g;
		$said[$n]{$whose} = $words;
	}
	return @said;
}

for my $level (@levels[ 1 .. 3 ])
{
	my @said = compare($level, @mixed);
	is(scalar @said, scalar @mixed, "$level: " . @mixed . ' calls with an id of another\'s among his own');
	is_deeply([ map { "$mixed[$_]: $said[$_]{other} but $said[$_]{nothing}" } grep { $said[$_]{other} ne $said[$_]{nothing} } 0 .. $#mixed ], [], 'are answered as if it were not there');
}

# ---------------------------------------------------------------- what the functions of the API call in turn
# Whoever may call these may call them directly.
my %of_type = (uuid => "'{conn}'::uuid", bigint => '{planned}::bigint', 'uuid[]' => "ARRAY['{ns}']::uuid[]", 'bigint[]' => 'ARRAY[{match}]::bigint[]', boolean => 'false', 'text[]' => "ARRAY['application']");
my %of_name = (namespace_id => "'{ns}'::uuid", secret_id => "'{secret}'::uuid", match_id => '{match}::bigint', application_id => "'{app}'::uuid", entity_id => "'{app}'::uuid",
	entity_type => "'application'", platform => "'servicenow'", kind => "'publish'", name => "'batch_items'", value => "'10'", query => 'NULL::text', sync_schedule => "'daily'", purpose => "'password'", secret => "'x'");
for my $level (@levels[ 1 .. 3 ])
{
	my @calls;
	for my $line (split /\n/, sql_as_owner("SELECT p.proname, p.proretset, string_agg(coalesce(a.name, '') || ':' || format_type(a.type, NULL) || ':' || t.typtype::text, ';' ORDER BY a.n)
		FROM pg_proc AS p CROSS JOIN LATERAL (SELECT n, (p.proargnames)[n] AS name, p.proargtypes[n - 1] AS type FROM generate_series(1, p.pronargs) AS n) AS a JOIN pg_type AS t ON t.oid = a.type
		WHERE p.pronamespace = 'pgsync_itsm'::regnamespace AND has_function_privilege('tenant_$level', p.oid, 'EXECUTE')
		  AND EXISTS (SELECT FROM unnest(p.proargtypes) AS x(type) WHERE x.type IN ('uuid'::regtype, 'bigint'::regtype, 'uuid[]'::regtype, 'bigint[]'::regtype) OR x.type::regtype::text ~ '^(pgsync_itsm\\.)?integration_')
		GROUP BY p.oid, 1, 2 ORDER BY 1"))
	{
		my ($name, $set, $args) = split /\|/, $line;
		my @args = map {
			my ($arg, $type, $kind) = split /:/, $_;
			my $id = $type eq 'integration_connections' ? '"{conn}"' : $type eq 'integration_matches' ? '{match}' : '{planned}';
			$kind eq 'c' ? "jsonb_populate_record(NULL::$type, '{\"id\": $id, \"connection_id\": \"{conn}\", \"namespace_id\": \"{ns}\", \"status\": \"planned\", \"kind\": \"publish\"}')"
			  : $type =~ /^(?:uuid|bigint|text)$/ && $of_name{$arg} ? $of_name{$arg} : $of_type{$type} // "NULL::$type";
		} split /;/, $args;
		push @calls, "SELECT x FROM pgsync_itsm.$name(" . join(', ', @args) . ') AS x';
	}
	my @said = compare($level, @calls);
	cmp_ok(scalar @calls, '>', 20, "$level: " . @calls . ' internal functions that take ids');
	is_deeply([ map { "$calls[$_]: $said[$_]{other} but $said[$_]{nothing}" } grep { $said[$_]{other} ne $said[$_]{nothing} } 0 .. $#calls ], [], 'tell nothing of another\'s either');
	cmp_ok(scalar(grep { $said[$_]{own} ne $said[$_]{nothing} } 0 .. $#calls), '>', 10, 'while of his own they do');
}

# ---------------------------------------------------------------- what was made belongs to whom
is($node->safe_psql('postgres', "SELECT DISTINCT owner FROM integration_connections"), 'tenant_admin', 'a connection is owned by who made it');
is(as_user('operator', $tenants[0]{user}, "SELECT count(*) FROM itsm_publish('$tenants[0]{ns}')"), '1', 'an operator publishes');
is($node->safe_psql('postgres', 'SELECT requested_by FROM integration_runs ORDER BY id DESC LIMIT 1'), 'tenant_operator', 'and the run says who');

# ---------------------------------------------------------------- a dump
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'restored without an error');
my $rights = "SELECT kind, object, privilege, r FROM unnest(ARRAY['viewer', 'operator', 'admin']) AS r, pgsync_itsm.level_privileges(r) AS p
	WHERE CASE kind WHEN 'TABLE' THEN has_table_privilege('tenant_' || r, object, privilege) WHEN 'SCHEMA' THEN has_schema_privilege('tenant_' || r, object, privilege)
	ELSE has_function_privilege('tenant_' || r, object, privilege) END ORDER BY 1, 2, 3, 4";
is($node->safe_psql('copy', $rights), $node->safe_psql('postgres', $rights), 'every privilege of every level is there again');
my $acl = "SELECT count(*) FROM pg_proc AS p, aclexplode(p.proacl) AS a WHERE a.grantee::regrole::text LIKE 'tenant_%'";
is($node->safe_psql('copy', $acl), $node->safe_psql('postgres', $acl), 'and no other');
my $condition = 'SELECT condition FROM pgsync_itsm.site';
is($node->safe_psql('copy', $condition), $node->safe_psql('postgres', $condition), 'so is the condition');
my $policies = "SELECT polrelid::regclass, polname, polcmd, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy
	WHERE polrelid IN (SELECT d.objid $member AND d.classid = 'pg_class'::regclass) ORDER BY 1, 2";
is($node->safe_psql('copy', $policies), $node->safe_psql('postgres', $policies), 'and each policy');
like($node->safe_psql('copy', $policies), qr/integration_connections\|see\|r/, 'which were looked at');
my ($rc, $out) = $node->psql('copy', "SET request.jwt.claims = '{\"sub\": \"$tenants[1]{user}\"}'; SET ROLE tenant_viewer; SELECT DISTINCT namespace_id FROM integration_connections");
is($out, $tenants[1]{ns}, 'a viewer of one namespace sees that one there');
my $trigger = "SELECT tgname, tgenabled, tgdeferrable, tginitdeferred FROM pg_trigger WHERE tgrelid = 'namespaces'::regclass AND tgname LIKE 'pgsync%' ORDER BY 1";
is($node->safe_psql('copy', $trigger), $node->safe_psql('postgres', $trigger), 'the triggers of the namespaces are there');
$node->safe_psql('copy', "DELETE FROM namespaces WHERE id = '$tenants[1]{ns}'");
is($node->safe_psql('copy', "SELECT is_active, pause_class FROM integration_connections WHERE namespace_id = '$tenants[1]{ns}'"), 'f|NAMESPACE_DELETED', 'and do their work');
$node->stop;
done_testing();
