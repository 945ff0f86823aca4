# Breaks: two tenants have a source that never ends, one has a source that takes its time for each change, one has a
# source whose function catches that it is cancelled and goes on.
# Compares: how long the publishes and the changes of two others take meanwhile with what they take alone.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $slice = 1;
my $node  = new_cluster(name => 'slow', conf => "pgsync_itsm.debounce = 0\npgsync_itsm.planner_slice = '${slice}s'\n");
my $sim   = start_simulator(options => [ '--switch', 'choice_cache_seconds=0' ]);
load_getinsync($node, 'postgres', attach => 0, generate => { applications => 1, namespace => "'99999999-0000-4000-8000-000000000000'::uuid" });
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm; SELECT itsm_attach_getinsync()');
$node->safe_psql('postgres', q{
	CREATE FUNCTION deaf() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(60);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$});

my %tenant;
my $n = 0;
for my $name (qw(quick1 quick2 endless1 endless2 late deaf))
{
	my $ns = sprintf '%08d-7e4a-4000-8000-000000000000', ++$n;
	$node->safe_psql('postgres', "SELECT getinsync_generate(applications => 20, profiles => 1, services => 2, products => 1, namespace => '$ns', seed => $n)");
	$sim->load(JSON::PP::decode_json($node->safe_psql('postgres', "SELECT getinsync_generate_platform('$ns')")));
	my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $ns, prepare => $n == 1, args => { sync_schedule => "'on_change'" });
	$tenant{$name} = { name => $name, ns => $ns, conn => $conn };
	is(publish_and_wait($node, 'postgres', $ns)->{status}, 'done', "$name: a first publish");
}
my $original = $node->safe_psql('postgres', "SELECT query FROM integration_sources WHERE entity_type = 'application' AND connection_id IS NULL");

# Lets a tenant's source of applications evaluate something before its first row; undef: nothing.  The plan in full that
# follows such a change is waited for.
sub first_evaluate
{
	my ($name, $sql) = @_;
	my $query = defined $sql ? sql_literal("SELECT q.* FROM (SELECT ($sql) IS NULL AS f) AS e, LATERAL ($original) AS q WHERE f IS NOT NULL") : 'NULL';
	$node->safe_psql('postgres', "SELECT itsm_set_source('$tenant{$name}{conn}', 'application', $query)");
	return;
}

sub follows
{
	my ($name, $schedule) = @_;
	$node->safe_psql('postgres', "UPDATE integration_connections SET sync_schedule = '$schedule', full_plan_after = NULL WHERE id = '$tenant{$name}{conn}'");
	return;
}

sub settled
{
	my ($name) = @_;
	return poll_query($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM integration_runs WHERE connection_id = '$tenant{$name}{conn}' AND status IN ('queued', 'planning', 'running'))
		AND (SELECT full_plan_after IS NULL FROM integration_connections WHERE id = '$tenant{$name}{conn}')");
}

# Changes one application and returns the text that the platform is to have.
my $changes = 0;

sub change
{
	my ($name) = @_;
	my $text = "$name " . ++$changes;
	$node->safe_psql('postgres', "UPDATE applications SET short_description = '$text' WHERE id = (SELECT min(a.id::text)::uuid FROM applications a
		JOIN workspaces w ON w.id = a.workspace_id WHERE w.namespace_id = '$tenant{$name}{ns}' AND a.operational_status = 'operational')");
	return $text;
}

sub there
{
	my ($text) = @_;
	return scalar grep { ($_->{short_description} // '') eq $text } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
}

sub time_of_change
{
	my ($name) = @_;
	my $begin = time();
	my $text  = change($name);
	ok(poll_until(sub { there($text) }, what => $text, seconds => 40), "$text arrives");
	return time() - $begin;
}

sub time_of_publish
{
	my ($name) = @_;
	my $begin = time();
	is(publish_and_wait($node, 'postgres', $tenant{$name}{ns})->{status}, 'done', "$name: a publish");
	return time() - $begin;
}

sub process
{
	my ($process, $column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM itsm_stat_process WHERE database = 'postgres' AND process = '$process'");
}

sub lane
{
	my ($run) = @_;
	return $node->safe_psql('postgres', "SELECT plan_lane FROM integration_runs WHERE id = $run");
}

sub best { return (sort { $a <=> $b } @_)[0] }

settled($_) for keys %tenant;
my $alone_publish = best(map { time_of_publish('quick1') } 1 .. 2);
my $alone_change  = best(map { time_of_change('quick1') } 1 .. 3);
note(sprintf 'alone: a publish takes %.2f s, a change %.2f s', $alone_publish, $alone_change);

# a source that takes its time: the worker gives it a moment, then it is the planner's, and nobody is held up
first_evaluate('late', 'SELECT pg_sleep(2)');
settled('late');
my $last = $node->safe_psql('postgres', 'SELECT max(id) FROM integration_runs');
my $text = change('late');
my $late = poll_until(sub { $node->safe_psql('postgres', "SELECT min(id) FROM integration_runs WHERE id > $last AND connection_id = '$tenant{late}{conn}' AND status = 'planning'") });
ok($late, 'a change whose source takes two seconds');
cmp_ok(time_of_change('quick1'), '<', $alone_change + 1, 'does not hold up one of another tenant');
isnt($node->safe_psql('postgres', "SELECT status FROM integration_runs WHERE id = $late"), 'done', 'which was there first');
ok(poll_until(sub { there($text) }, what => $text), 'and arrives, too');
like(lane($late), qr/^(planner|slow)$/, 'the planner had it');

# every change of an application makes a run of each tenant that follows changes, which finds nothing: no more of those
follows('late', 'manual');
settled('late');

# one endless source: its planner makes room
follows($_, 'manual') for qw(endless1 endless2 deaf);
first_evaluate($_, 'SELECT pg_sleep(3600)') for qw(endless1 endless2);
my ($first) = publish_runs($node, 'postgres', $tenant{endless1}{ns});
my $pid;
ok(poll_until(sub { (my $run, $pid) = split ' ', process('planner', "run_id || ' ' || pid"); ($run // '') eq $first }), 'the planner is in an endless source');
is($node->safe_psql('postgres', "SELECT application_name || '|' || query FROM pg_stat_activity WHERE pid = $pid"), "pgsync_itsm planner postgres|pgsync_itsm: planning run $first", 'and says so');
cmp_ok(time_of_publish('quick1'), '<', $alone_publish + $slice + 1, 'another tenant waits for a slice');
is(process('slow planner', 'run_id || \' \' || pid'), "$first $pid", 'the planner became the slow one, and lost nothing');
cmp_ok(time_of_publish('quick2'), '<', $alone_publish + 1, 'and the next one for nothing');

# a second one: it is interrupted, and waits for the first one
my ($second) = publish_runs($node, 'postgres', $tenant{endless2}{ns});
ok(poll_until(sub { process('planner', 'run_id') eq $second }), 'the planner is in another one');
cmp_ok(time_of_publish('quick1'), '<', $alone_publish + $slice + 1, 'others wait for a slice');
is(lane($second), 'slow', 'the second endless run waits for the slow planner');
is(process('slow planner', 'run_id'), $first, 'which is at the first one');
cmp_ok(time_of_publish('quick2'), '<', $alone_publish + 1, 'others wait for nothing');
cmp_ok(best(map { time_of_change('quick1') } 1 .. 3), '<', $alone_change + 1, 'changes go through as ever');
ok(poll_query($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm planner'", 1), 'one planner is left');

# both can be cancelled: the one that waits, and the one that is at work
for my $run ($second, $first)
{
	my $begin = time();
	$node->safe_psql('postgres', "SELECT itsm_cancel($run)");
	is(wait_for_run($node, 'postgres', $run)->{status}, 'cancelled', 'an endless plan is cancelled');
	cmp_ok(time() - $begin, '<', 2, 'at once');
}
ok(poll_until(sub { process('slow planner', 'pid') eq '' }), 'the slow planner ends when nothing is left for it');

# they take turns: each at most for plan_timeout
$node->append_conf('postgresql.conf', "pgsync_itsm.plan_timeout = '3s'\n");
$node->reload;
my $begin = time();
my @both  = map { publish_runs($node, 'postgres', $tenant{$_}{ns}) } qw(endless1 endless2);
time_of_publish('quick1');
for my $run (@both)
{
	my $row = wait_for_run($node, 'postgres', $run);
	is("$row->{status} $row->{error_code}", 'failed 57014', 'an endless plan fails after plan_timeout');
	like($row->{error_message}, qr/^phase "read application": canceling statement due to statement timeout/, 'and says where it was');
}
cmp_ok(time() - $begin, '<', 12, 'one after the other');

# a run whose SQL cannot be cancelled ends with its planner, and is not begun for ever
$node->append_conf('postgresql.conf', "pgsync_itsm.plan_timeout = '10min'\n");
$node->reload;
first_evaluate('deaf', 'public.deaf()');
($first) = publish_runs($node, 'postgres', $tenant{endless1}{ns});
time_of_publish('quick1');
is(process('slow planner', 'run_id'), $first, 'the slow planner is in an endless source');
my ($deaf) = publish_runs($node, 'postgres', $tenant{deaf}{ns});
ok(poll_until(sub { process('planner', 'run_id') eq $deaf }), 'the planner in one that cannot be cancelled');
cmp_ok(time_of_publish('quick1'), '<', $alone_publish + $slice + 12, 'others wait until it is ended');
my $row = wait_for_run($node, 'postgres', $deaf);
is($row->{status}, 'failed', 'its run fails');
like($row->{error_hint}, qr/query_canceled/, 'and says why');

# in the worker, too
settled('quick2');
follows('deaf', 'on_change');
$node->safe_psql('postgres', "SELECT itsm_cancel($first)");
my $worker = worker_pid($node, 'postgres');
$last = $node->safe_psql('postgres', 'SELECT max(id) FROM integration_runs');
change('deaf');
ok(poll_until(sub { my $now = worker_pid($node, 'postgres'); $now ne '' && $now ne $worker }), 'a worker that meets such a source ends');
time_of_change('quick1');
$worker = worker_pid($node, 'postgres');
($deaf) = $node->safe_psql('postgres', "SELECT min(id) FROM integration_runs WHERE id > $last AND connection_id = '$tenant{deaf}{conn}'");
like(lane($deaf), qr/^(planner|slow)$/, 'the next one leaves the run to the planner');
$node->safe_psql('postgres', "SELECT itsm_activate('$tenant{deaf}{conn}', false)");
is(worker_pid($node, 'postgres'), $worker, 'and lives');
$node->stop('immediate');

done_testing();
