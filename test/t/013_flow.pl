# What becomes of a request that fails as a whole: a token that is refused once and for ever, a platform that
# asks for patience, one item that spoils the request of many, credentials that are wrong.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster(databases => 'postgres');
my $sim  = start_simulator();
load_platform($sim);
load_getinsync($node, 'postgres');
my $namespace = namespace_of($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $namespace);
ok(poll_until(sub { $node->safe_psql('postgres', "SELECT state FROM itsm_stat_worker") eq 'idle' }), 'the worker is there');
my $worker = worker_pid($node, 'postgres');

sub fault
{
	$sim->post('/__sim/faults', {@_});
	return;
}

sub no_faults
{
	$sim->{http}->delete($sim->url . '/__sim/faults');
	return;
}

sub connection
{
	my ($column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM integration_connections WHERE id = '$conn'");
}

# States of the items of a run that were to be sent, as "state=n".
sub states
{
	my ($run) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(state || '=' || n, ' ' ORDER BY state) FROM (SELECT state, count(*) AS n "
		  . "FROM integration_run_items WHERE run_id = $run AND action IN ('CREATE', 'UPDATE') AND entity_type = 'application' GROUP BY 1) AS s");
}

# one application, by its description, that the platform chokes on as long as it is in a request
my $poison = 'spoils every request that it is in';
my ($bad) = split /\n/, $node->safe_psql('postgres', "SELECT a.id FROM applications a JOIN workspaces w ON w.id = a.workspace_id "
	  . "WHERE w.namespace_id = '$namespace' AND a.name IN (SELECT name FROM applications GROUP BY 1 HAVING count(*) = 1) ORDER BY a.name OFFSET 5 LIMIT 1");
$node->safe_psql('postgres', "UPDATE applications SET description = '$poison' WHERE id = '$bad'");

fault(endpoint => 'identifyreconcile', fault => 'status', status => 400, message => 'cannot be read', body_contains => $poison, count => -1);
my $run = publish_and_wait($node, 'postgres', $namespace);
is($run->{status}, 'done', 'a run with a request that is refused as a whole ends');
is( $node->safe_psql('postgres', "SELECT string_agg(entity_id::text, ' ') FROM integration_run_items "
		  . "WHERE run_id = $run->{id} AND entity_type = 'application' AND state = 'dead' AND attempts > 0"),
	$bad, 'the item that spoiled it stands alone, and is dead');
like(states($run->{id}), qr/done=\d\d/, 'the others went through');
cmp_ok($node->safe_psql('postgres', "SELECT max(attempts) FROM integration_run_items WHERE run_id = $run->{id} AND entity_type = 'application'"),
	'<=', 2, 'and nobody else paid for it with attempts');
no_faults();

# it is repaired; meanwhile a token is refused once, and the platform asks for patience
fault(endpoint => '/api/', fault => 'token_expiry', count => 1);
fault(endpoint => 'identifyreconcile', fault => 'retry_after', seconds => 1, status => 429, count => 2, skip => 1);
$node->safe_psql('postgres', "UPDATE applications SET description = 'repaired' WHERE id = '$bad'");
$run = publish_and_wait($node, 'postgres', $namespace);
is($run->{status}, 'done', 'a refused token and a 429 are overcome');
is($node->safe_psql('postgres', "SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state = 'dead' AND attempts > 0"),
	0, 'nothing that was sent is dead');
is(connection('paused_at'), '', 'nothing is paused');
no_faults();

# refused again and again: the connection is paused, the run waits
$node->safe_psql('postgres', "UPDATE applications SET description = 'once more' WHERE id = '$bad'");
fault(endpoint => '/api/', fault => 'status', status => 401, count => -1);
my ($id) = publish_runs($node, 'postgres', $namespace);
ok(poll_until(sub { connection('paused_at') ne '' }), '401 with a fresh token, too: paused');
ok(connection('pause_class') ne '' && connection('pause_reason') ne '', 'with class and reason');
like(run_row($node, 'postgres', $id)->{status}, qr/^(planning|running)$/, 'the run waits');
ok(poll_until(sub { $node->safe_psql('postgres', 'SELECT in_flight FROM itsm_stat_worker') eq '0' }), 'nothing is sent meanwhile');
no_faults();
$node->safe_psql('postgres', "SELECT itsm_activate('$conn')");
is(wait_for_run($node, 'postgres', $id)->{status}, 'done', 'activated again, it goes on');

# a platform that is not there is waited for
$node->safe_psql('postgres', "UPDATE applications SET description = 'in the dark' WHERE id = '$bad'");
fault(endpoint => '*', fault => 'close_before_reply', count => 3);
($id) = publish_runs($node, 'postgres', $namespace);
is(wait_for_run($node, 'postgres', $id)->{status}, 'done', 'broken connections are overcome');
is(connection("coalesce(last_error, '')"), '', 'and no longer shown once it works');
no_faults();

# another connection of another namespace, with a secret that is wrong: that one is paused, the other works
my $other = $node->safe_psql('postgres', "SELECT w.namespace_id FROM workspaces w WHERE w.namespace_id <> '$namespace' LIMIT 1");
SKIP:
{
	skip 'the sample has one namespace', 2 if $other eq '';
	my $wrong = connect_and_activate($node, 'postgres', $sim, namespace => $other, prepare => 0,
		args => { client_secret => "'wrong'" });
	publish_runs($node, 'postgres', $other);
	ok( poll_until(
			sub { $node->safe_psql('postgres', "SELECT paused_at IS NOT NULL FROM integration_connections WHERE id = '$wrong'") eq 't' }),
		'a wrong secret pauses its connection');
	is(publish_and_wait($node, 'postgres', $namespace)->{status}, 'done', 'and no other');
}

is(worker_pid($node, 'postgres'), $worker, 'all of this in one worker process');
is($node->safe_psql('postgres', 'SELECT last_error FROM itsm_stat_worker'), '', 'without an error of its own');
$node->stop('fast');

done_testing();
