# Breaks: one tenant's transaction holds the row of its run, or of its connection, for as long as it likes: while its run
# is queued, while its requests are on the wire, after it asked for a cancellation.
# Compares: another tenant's publish ends meanwhile, nothing of the first one is lost or made twice, and it goes on when
# the transaction is over.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my @ns = ('11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222');
my $node = new_cluster(name => 'held', conf => "pgsync_itsm.debounce = 0\n");
load_getinsync($node, 'postgres');
my (@sim, @conn);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# the second tenant has a few records of its own
sql("INSERT INTO namespaces (id, name, slug) SELECT '$ns[1]', 'Second', 'second' WHERE NOT EXISTS (SELECT FROM namespaces WHERE id = '$ns[1]');
	INSERT INTO workspaces (id, namespace_id, name, slug) VALUES ('22222222-0000-4000-8000-000000000001', '$ns[1]', 'Second', 'held-second');
	INSERT INTO applications (id, workspace_id, name, management_classification)
	SELECT ('22222222-0000-4000-8000-0000000001' || lpad(n::text, 2, '0'))::uuid, '22222222-0000-4000-8000-000000000001', 'Second ' || n, 'apm' FROM generate_series(1, 5) AS n");
for my $n (0, 1)
{
	$sim[$n] = start_simulator();
	load_platform($sim[$n]);
	$conn[$n] = connect_and_activate($node, 'postgres', $sim[$n], namespace => $ns[$n], settings => { write_api => 'instance' });
}

# A transaction that stays open.
sub hold
{
	my ($statement) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe("SET client_min_messages = error; BEGIN; $statement");
	return $session;
}

sub release
{
	my ($session) = @_;
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

# The other tenant changes something, publishes it, and is through.
my $changes = 0;
sub others_go_on
{
	my ($name) = @_;
	$changes++;
	sql("UPDATE applications SET short_description = 'Change $changes' WHERE workspace_id = '22222222-0000-4000-8000-000000000001'");
	my $row = publish_and_wait($node, 'postgres', $ns[1], seconds => 60);
	is($row->{status}, 'done', "$name: the other tenant's publish ends");
	my ($app) = grep { $_->{name} eq 'Second 1' } @{ $sim[1]->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
	is($app->{short_description}, "Change $changes", "$name: and is there");
	return;
}

sub run_status { return sql("SELECT status FROM integration_runs WHERE id = $_[0]") }

is(publish_and_wait($node, 'postgres', $ns[1])->{status}, 'done', 'the other tenant has published before');

# ---- the connection's row, before the run begins -------------------------------------------------

my $session = hold("SELECT itsm_set('$conn[0]', 'max_attempts', '9')");
my ($run) = publish_runs($node, 'postgres', $ns[0]);
others_go_on('a connection held');
is(run_status($run), 'queued', 'its own run waits');

# ---- the run's row, while its requests are on the wire -------------------------------------------

$sim[0]->post('/__sim/faults', { endpoint => '/cmdb/instance', count => 20, fault => 'delay', seconds => 0.4 });
release($session);
ok(poll_query($node, 'postgres', "SELECT EXISTS (SELECT FROM pgsync_itsm.claims WHERE run_id = $run)"), 'it begins when the row is free, and is on the wire');
$session = hold("SELECT FROM integration_runs WHERE id = $run FOR UPDATE");
my $done = sql("SELECT count(*) FROM integration_run_items WHERE run_id = $run AND state IN ('done', 'unchanged')");
others_go_on('a run held');
is(run_status($run), 'running', 'its own run is where it was');
my $held = sql("SELECT count(*) FROM integration_run_items WHERE run_id = $run AND state IN ('done', 'unchanged')");
ok(poll_query($node, 'postgres', "SELECT count(*) <= $held FROM integration_run_items WHERE run_id = $run AND state IN ('done', 'unchanged')"), 'nothing is settled over it');
others_go_on('a run still held');
release($session);

# ---- the connection's row, meanwhile -------------------------------------------------------------

ok(poll_query($node, 'postgres', "SELECT count(*) > $held FROM integration_run_items WHERE run_id = $run AND state IN ('done', 'unchanged')"), 'it goes on');
$session = hold("SELECT itsm_set('$conn[0]', 'max_attempts', '7')");
others_go_on('a connection held in the middle');
release($session);
my $row = wait_for_run($node, 'postgres', $run, seconds => 120);
is("$row->{status} " . sql("SELECT count(*) FROM integration_run_items WHERE run_id = $run AND state = 'dead' AND attempts > 0"), "done 0", "in the end everything is sent");
cmp_ok($row->{done}, '>', 60, 'all of the sample');
my $d = $sim[0]->stats->{duplicates};
is($d->{$_}{count}, 0, "no duplicates: $_") for qw(correlation_id relations);
is(sql("SELECT count(*) FROM integration_run_items WHERE run_id = $run AND attempts > 1"), '0', 'no item needed a second attempt');
is(publish_and_wait($node, 'postgres', $ns[0])->{to_update}, 0, 'and nothing is left to do');

# ---- a cancellation that is not committed ---------------------------------------------------------

sql("UPDATE applications SET short_description = 'Changed for all' FROM workspaces w WHERE w.id = workspace_id AND w.namespace_id = '$ns[0]'");
$sim[0]->post('/__sim/faults', { endpoint => '/cmdb/instance', count => 40, fault => 'delay', seconds => 0.3 });
($run) = publish_runs($node, 'postgres', $ns[0]);
ok(poll_query($node, 'postgres', "SELECT EXISTS (SELECT FROM pgsync_itsm.claims WHERE run_id = $run)"), 'a run is on the wire');
$session = hold("SELECT itsm_cancel($run)");
others_go_on('a cancellation that is not committed');
is(run_status($run), 'running', 'it is not cancelled yet');
release($session);
is(wait_for_run($node, 'postgres', $run)->{status}, 'cancelled', 'once committed, it is');
$row = publish_and_wait($node, 'postgres', $ns[0], seconds => 120);
is($row->{status}, "done", "the next publish makes up for it");
my @apps = @{ $sim[0]->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
my %name = map { $_->{correlation_id} => 1 } grep { ($_->{short_description} // '') eq 'Changed for all' } @apps;
cmp_ok(scalar keys %name, '>', 10, 'every change arrived');
is($sim[0]->stats->{duplicates}{correlation_id}{count}, 0, 'once');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/(?:PANIC|terminating|exited with exit code [1-9])[^\n]*pgsync_itsm worker/, 'the worker never ended');

$_->stop for @sim;
$node->stop;
done_testing();
