# The planner: long SQL runs apart from the worker, which goes on meanwhile; it can be cancelled, it can fail,
# it can be killed.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_cluster(databases => 'postgres');
my $sim  = start_simulator();
load_platform($sim);
load_getinsync($node, 'postgres');
my $namespace = namespace_of($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $namespace);
ok(wait_for_worker($node, 'postgres'), 'a worker');

my $original = $node->safe_psql('postgres', "SELECT query FROM integration_sources WHERE entity_type = 'application'");

# Lets the source of applications evaluate something before its first row; undef: nothing.
sub first_evaluate
{
	my ($sql) = @_;
	my $query = defined $sql ? "SELECT q.* FROM (SELECT ($sql) IS NULL AS f) AS e, LATERAL ($original) AS q WHERE f IS NOT NULL" : $original;
	$node->safe_psql('postgres', 'UPDATE integration_sources SET query = ' . sql_literal($query) . " WHERE entity_type = 'application'");
	return;
}

# Is the planner in the SQL of the user?
sub sleeps
{
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm planner' AND wait_event = 'PgSleep'") eq '1';
}

sub worker_row
{
	my ($column) = @_;
	return $node->safe_psql('postgres', "SELECT s.$column FROM pgsync_itsm.worker_state() AS s JOIN pg_database AS d ON d.oid = s.database_oid WHERE d.datname = 'postgres'");
}

# slow SQL
first_evaluate('SELECT pg_sleep(600)');
my ($run) = publish_runs($node, 'postgres', $namespace);
ok(poll_until(sub { worker_row('planner_run') eq $run }), 'the planner is at the run');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm planner'"), 1, 'in a process of its own');
my $cycle = worker_row('last_cycle');
$node->safe_psql('postgres', 'SELECT pgsync_itsm.wake()');
ok(poll_until(sub { worker_row('last_cycle') ne $cycle }), 'the worker goes on meanwhile');
ok(poll_until(\&sleeps), 'it is in the SQL of the user');

# killed: another one plans
my $planner = worker_row('planner_pid');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($planner)");
ok(poll_until(sub { my $pid = worker_row('planner_pid'); $pid ne '' && $pid ne $planner && worker_row('planner_run') eq $run }, seconds => 20),
	'a planner that was ended is followed by another');
ok(poll_until(\&sleeps), 'which begins again');

# cancelled
my $begin = time();
is($node->safe_psql('postgres', "SELECT pgsync_itsm.cancel_planner($run)"), 't', 'its run can be cancelled');
like(wait_for_run($node, 'postgres', $run)->{status}, qr/^(failed|cancelled)$/, 'then it ends');
cmp_ok(time() - $begin, '<', 5, 'at once');
is($node->safe_psql('postgres', "SELECT pgsync_itsm.cancel_planner($run)"), 'f', 'nothing is left to cancel');

# SQL that fails
first_evaluate('1 / (random() * 0)::int');
($run) = publish_runs($node, 'postgres', $namespace);
my $row = wait_for_run($node, 'postgres', $run);
is($row->{status}, 'failed', 'an error of the SQL fails the run');
is($row->{error_code}, '22012', 'with its code');
ok(poll_until(sub { worker_row('planner_pid') eq '' }), 'the planner ends when nothing is to be planned');

# and all is well again
first_evaluate(undef);
is(publish_and_wait($node, 'postgres', $namespace)->{status}, 'done', 'repaired, it is planned and sent');

# stop while it plans
first_evaluate('SELECT pg_sleep(600)');
($run) = publish_runs($node, 'postgres', $namespace);
ok(poll_until(sub { worker_row('planner_run') eq $run }), 'the planner is at another run');
$begin = time();
$node->stop('fast');
cmp_ok(time() - $begin, '<', 3, 'stop -m fast is not held up by it');

done_testing();
