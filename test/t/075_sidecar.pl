# Breaks: the application's database is one where nothing can be installed, and restarts; the sidecar that has the extension
# gets everything by logical replication, lags, and restarts.  The files of doc/sidecar are used as they are.
# Compares: the copied tables with the originals, what is sent with what was changed, and what the views at the publisher
# show to whom.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city   = '11111111-1111-4111-8111-111111111111';
my $sage   = 'aaaaaaaa-0001-4000-8000-000000000001';
my $docs   = top_dir() . '/doc/sidecar';
my $sample = top_dir() . '/test/getinsync';

my $pub = new_cluster(name => 'app', preload => 0, allows_streaming => 'logical');
my $sub = new_cluster(name => 'sidecar', conf => "pgsync_itsm.debounce = 0\n");
my $sim = start_simulator();
load_platform($sim);

sub file
{
	my ($node, $path, %set) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), (map { ('-v', "$_=$set{$_}") } sort keys %set), '-f', $path ], '>', \$out, '2>', \$err)
	  or die "$path: $err";
	return $out;
}

sub here  { return $pub->safe_psql('postgres', $_[0]) }
sub there { return $sub->safe_psql('postgres', $_[0]) }

# ---- the publisher ------------------------------------------------------------------------------

load_getinsync($pub, 'postgres', attach => 0);
# one table has no key; the application writes to it all the same
here('ALTER TABLE portfolio_assignments DROP CONSTRAINT portfolio_assignments_pkey');
here('CREATE ROLE itsm_sidecar LOGIN REPLICATION BYPASSRLS');
file($pub, "$docs/publisher.sql", reader => 'itsm_sidecar');
file($pub, "$sample/sample_scope.sql");
is(here("SELECT count(*) FROM pg_extension WHERE extname = 'pgsync_itsm'"), '0', 'the publisher has no extension');
my @tables = split /\n/, here("SELECT tablename || ' ' || array_to_string(attnames, ',') FROM pg_publication_tables WHERE pubname = 'pgsync_itsm' ORDER BY 1");
is(scalar @tables, 17, 'seventeen tables are published');

# ---- the sidecar --------------------------------------------------------------------------------

# what of the dump the sidecar cannot take (policies for roles that it has not) it does not need
my $dump = '';
IPC::Run::run([ 'pg_dump', '--schema-only', '--no-owner', '--no-privileges', '-n', 'public', '-n', 'auth', '-d', $pub->connstr('postgres') ], '>', \$dump) or die 'pg_dump';
IPC::Run::run([ 'psql', '-Xq', '-d', $sub->connstr('postgres') ], '<', \$dump, '>', \my $out, '2>', \my $err);
my $log_begin = -s $sub->logfile;
file($sub, "$docs/subscriber.sql", publisher => $pub->connstr('postgres') . ' user=itsm_sidecar', status_role => 'itsm_status', status_password => 'unused');
ok(poll_query($sub, 'postgres', "SELECT count(*) = 17 FROM pg_subscription_rel WHERE srsubstate = 'r'"), 'the first copy is made');

sub same_tables
{
	my ($name) = @_;
	$pub->wait_for_catchup('pgsync_itsm');
	my @other;
	for (@tables)
	{
		my ($table, $columns) = split / /;
		my $sum = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM (SELECT $columns FROM $table) AS t";
		push @other, $table if here($sum) ne there($sum);
	}
	is("@other", '', "$name: every table is as the original");
	return;
}
same_tables('after the first copy');
cmp_ok(here('SELECT count(department) FROM contacts'), '>', 0, 'contacts have a department');
is(there('SELECT count(department) FROM contacts'), '0', 'which does not leave the application');

my $conn  = connect_and_activate($sub, 'postgres', $sim, namespace => $city, args => { sync_schedule => "'on_change'" });
my $first = publish_and_wait($sub, 'postgres', $city);
is($first->{status}, 'done', 'a first publish from the sidecar');
cmp_ok($first->{done}, '>', 60, 'of the whole portfolio');

sub settled
{
	$pub->wait_for_catchup('pgsync_itsm');
	return poll_query($sub, 'postgres',
		"SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
		    AND (SELECT full_plan_after IS NULL FROM integration_connections)");
}

sub application
{
	my ($id) = @_;
	my ($app) = grep { ($_->{correlation_id} // '') eq $id } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
	return $app;
}

sub relations { return scalar @{ $sim->dump('cmdb_rel_ci')->{cmdb_rel_ci} } }

ok(settled(), 'all is quiet');

# ---- changes ------------------------------------------------------------------------------------

here("UPDATE applications SET short_description = 'Changed at the publisher' WHERE id = '$sage'");
ok(settled(), 'a change');
is(application($sage)->{short_description}, 'Changed at the publisher', 'reaches the platform');

# the table without a key
my $before = application($sage)->{business_criticality};
here("UPDATE portfolio_assignments SET criticality = 50 WHERE application_id = '$sage'");
ok(settled(), 'a change in a table without a key');
isnt(application($sage)->{business_criticality}, $before, 'reaches it, too');

# a link, and its end
my $service = there("SELECT m.entity_id FROM integration_sync_map m WHERE m.entity_type = 'it_service' AND NOT EXISTS (SELECT FROM deployment_profile_it_services l
	   WHERE l.it_service_id = m.entity_id AND l.deployment_profile_id = 'dddddddd-0001-4000-8000-000000000101') ORDER BY 1 LIMIT 1");
my $rows = relations();
here("INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id) VALUES ('dddddddd-0001-4000-8000-000000000101', '$service')");
ok(settled(), 'a link');
is(relations(), $rows + 1, 'is one row more');
here("DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = 'dddddddd-0001-4000-8000-000000000101' AND it_service_id = '$service'");
ok(settled(), 'a link that is deleted');
is(relations(), $rows, 'is one row less');

# the application's own triggers work at the publisher, and not a second time
here("INSERT INTO applications (id, workspace_id, name, management_classification, operational_status)
	SELECT 'aaaaaaaa-0001-4000-8000-000000000077', workspace_id, 'Sidecar test', 'apm', 'operational' FROM applications WHERE id = '$sage'");
ok(settled(), 'a new application');
ok(application('aaaaaaaa-0001-4000-8000-000000000077'), 'is there');
is(there("SELECT count(*) FROM deployment_profiles WHERE application_id = 'aaaaaaaa-0001-4000-8000-000000000077'"), '1', 'with one default profile');

# deleted here, retired there
here("DELETE FROM applications WHERE id = 'aaaaaaaa-0001-4000-8000-000000000077'");
ok(settled(), 'a deleted application');
is(application('aaaaaaaa-0001-4000-8000-000000000077')->{operational_status}, '6', 'is retired there');
same_tables('after changes');

# rolled back: nothing
$sim->reset_counters;
here("BEGIN; UPDATE applications SET short_description = 'never' WHERE id = '$sage'; ROLLBACK");
ok(settled(), 'what is rolled back');
is($sim->stats->{writes}, 0, 'is not sent');

# ---- a table that is emptied, and one that is copied again -------------------------------------

my $flows = there("SELECT count(*) FROM integration_sync_map WHERE entity_type = 'sends_data_to'");
cmp_ok($flows, '>', 0, 'there are flows');
$rows = relations();
here('CREATE TABLE flows AS SELECT * FROM application_integrations; TRUNCATE application_integrations CASCADE');
$pub->wait_for_catchup('pgsync_itsm');
ok(poll_query($sub, 'postgres', "SELECT EXISTS (SELECT FROM integration_runs WHERE id > $first->{id} AND NOT partial AND to_delete = $flows)"), 'TRUNCATE makes a plan in full, which would delete the flows');
my $emptied = there("SELECT max(id) FROM integration_runs WHERE NOT partial");
is(wait_for_run($sub, 'postgres', $emptied)->{status}, 'done', 'and does: they are few');
is(relations(), $rows - $flows, 'they are gone');

here('ALTER PUBLICATION pgsync_itsm DROP TABLE application_integrations');
there('ALTER SUBSCRIPTION pgsync_itsm REFRESH PUBLICATION');
here('INSERT INTO application_integrations SELECT * FROM flows; DROP TABLE flows');
file($pub, "$docs/publisher.sql", reader => 'itsm_sidecar');
there('ALTER SUBSCRIPTION pgsync_itsm REFRESH PUBLICATION');
ok(poll_query($sub, 'postgres', "SELECT count(*) = 17 FROM pg_subscription_rel WHERE srsubstate = 'r'"), 'the table is published again, and copied');
ok(poll_until(sub { relations() == $rows }), 'what a copy brings is sent as any change') or diag(there('SELECT id, status, partial, approval_reason FROM integration_runs ORDER BY 1'));
ok(settled(), 'and ends');
same_tables('after a second copy');

# ---- away, and back -----------------------------------------------------------------------------

$pub->restart;
here("UPDATE applications SET short_description = 'After a restart' WHERE id = '$sage'");
ok(poll_until(sub { application($sage)->{short_description} eq 'After a restart' }, seconds => 60), 'the publisher restarts, and changes arrive');
$sub->stop('immediate');
here("UPDATE applications SET short_description = 'While it was away' WHERE id = '$sage'");
$sub->start;
ok(poll_until(sub { application($sage)->{short_description} eq 'While it was away' }, seconds => 60), 'the sidecar was away, and catches up');
there('ALTER SUBSCRIPTION pgsync_itsm DISABLE');
here("UPDATE applications SET short_description = 'Lagging $_' WHERE id = '$sage'") for 1 .. 20;
there('ALTER SUBSCRIPTION pgsync_itsm ENABLE');
ok(poll_until(sub { application($sage)->{short_description} eq 'Lagging 20' }, seconds => 60), 'a subscription that was off catches up');
ok(settled(), 'and all is quiet again');
is($sim->stats->{duplicates}{$_}{count}, 0, "no duplicates: $_") for qw(correlation_id relations);

# ---- the slot is lost: copied anew, as the README says ------------------------------------------

my $created = there("SELECT count(*) FROM integration_sync_log WHERE operation = 'create'");
my $retired = grep { ($_->{operational_status} // '') eq '6' } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
there("SELECT itsm_activate('$conn', false)");
there('ALTER SUBSCRIPTION pgsync_itsm DISABLE');
here("SELECT pg_drop_replication_slot('pgsync_itsm') FROM pg_replication_slots WHERE slot_name = 'pgsync_itsm' AND NOT active")
  if poll_query($pub, 'postgres', "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'pgsync_itsm'");
here("UPDATE applications SET short_description = 'After the loss' WHERE id = '$sage'");
there("ALTER TABLE namespaces DISABLE TRIGGER pgsync_itsm_namespaces;
	SELECT format('TRUNCATE %s', string_agg(srrelid::regclass::text, ', ')) FROM pg_subscription_rel \\gexec
	ALTER TABLE namespaces ENABLE ALWAYS TRIGGER pgsync_itsm_namespaces");
there('ALTER SUBSCRIPTION pgsync_itsm SET (slot_name = NONE)');
there('DROP SUBSCRIPTION pgsync_itsm');
file($sub, "$docs/subscriber.sql", publisher => $pub->connstr('postgres') . ' user=itsm_sidecar');
ok(poll_query($sub, 'postgres', "SELECT count(*) = 17 FROM pg_subscription_rel WHERE srsubstate = 'r'"), 'a lost slot: everything is copied again');
same_tables('after the loss');
there("SELECT itsm_activate('$conn')");
is(publish_and_wait($sub, 'postgres', $city)->{status}, 'done', 'and published');
ok(settled(), 'and settled');
is(application($sage)->{short_description}, 'After the loss', 'with what changed meanwhile');
is(there("SELECT count(*) FROM integration_sync_log WHERE operation = 'create'"), $created, 'nothing is created again');
is(scalar(grep { ($_->{operational_status} // '') eq '6' } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }), $retired, 'nothing is retired');
is(relations(), $rows, 'nothing is unlinked');

# ---- the status, at the publisher ---------------------------------------------------------------

file($pub, "$docs/status.sql", visible => 'namespace_id = public.get_current_namespace_id()', role => 'authenticated', host => $sub->host, port => $sub->port,
	dbname => 'postgres', user => 'itsm_status', password => 'unused');

sub as_user
{
	my ($user, $sql) = @_;
	return here(qq{SET ROLE authenticated; SET request.jwt.claims = '{"sub": "$user"}'; $sql});
}
my $riverton  = 'eeeeeeee-0001-4000-8000-000000000001';
my $elmsworth = 'eeeeeeee-0002-4000-8000-000000000001';
is(as_user($riverton, 'SELECT get_current_namespace_id()'), $city, 'a user of the publisher');
is(as_user($riverton, 'SELECT connection_id || is_active::text || last_run_status FROM itsm.status'), "${conn}truedone", 'sees the state of his connection');
is(as_user($riverton, "SELECT external_id || state FROM itsm.records WHERE entity_id = '$sage'"), application($sage)->{sys_id} . 'linked', 'which CI an application is');
is(as_user($riverton, 'SELECT count(*) FROM itsm.records'), there('SELECT count(*) FROM integration_sync_map'), 'and the others');
cmp_ok(as_user($riverton, "SELECT count(*) FROM itsm.recent WHERE entity_id = '$sage' AND status = 'success'"), '>', 3, 'and what was sent');
is(as_user($elmsworth, 'SELECT count(*) FROM itsm.status') . as_user($elmsworth, 'SELECT count(*) FROM itsm.records') . as_user($elmsworth, 'SELECT count(*) FROM itsm.recent'),
	'000', 'another tenant sees nothing of it');
my (undef, undef, $error) = $pub->psql('postgres', 'SET ROLE authenticated; SELECT * FROM itsm.sidecar_map');
like($error, qr/permission denied for foreign table sidecar_map/, 'nor anybody what is behind the views');
$sub->stop('fast');
(undef, undef, $error) = $pub->psql('postgres', 'SELECT * FROM itsm.status');
like($error, qr/could not connect to server "itsm_sidecar"/, 'without the sidecar the views say so');
here("UPDATE applications SET short_description = 'Alone' WHERE id = '$sage'");
is(here("SELECT short_description FROM applications WHERE id = '$sage'"), 'Alone', 'and the application works on');

my @odd = grep { /(?:ERROR|FATAL|PANIC):  / && !/logical replication|terminating (?:background worker|walreceiver|connection)|could not (?:send end-of-streaming|connect to the publisher|receive data from WAL stream|start WAL streaming)/ }
  split /\n/, slurp_file($sub->logfile, $log_begin);
is(join("\n", @odd), '', 'no error in the log of the sidecar but of the connection that was cut');

$sim->stop;
$pub->stop;
done_testing();
