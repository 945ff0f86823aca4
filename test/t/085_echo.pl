# What we wrote ourselves is known when it comes back, also where the platform made something else of it: statuses that are
# kept in step with each other there, a life cycle that is derived from them there.  Whatever of the three a connection
# writes, and whichever of the two rules the platform has: a reading after a publish changes nothing here, and the publish
# after it sends nothing.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $sage = 'aaaaaaaa-0001-4000-8000-000000000001';

sub look
{
	my ($t) = @_;
	return $t->{node}->safe_psql('postgres', q{SELECT string_agg(to_jsonb(a)::text, E'\n' ORDER BY a.id) FROM applications AS a UNION ALL
		SELECT string_agg(to_jsonb(p)::text, E'\n' ORDER BY p.id) FROM deployment_profiles AS p});
}

# One round of a change here, and everything that comes of it.
sub round
{
	my ($t, $name, $sql) = @_;
	my ($node, $sim) = @$t{qw(node sim)};
	$node->safe_psql('postgres', $sql) if $sql;
	is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', "$name: published");
	my $before = look($t);
	my ($run) = split /\n/, $node->safe_psql('postgres', "SELECT itsm_subscribe('$city')");
	my $row = wait_for_run($node, 'postgres', $run, seconds => 60);
	is($row->{status}, 'done', "$name: read back") or diag($row->{error_message} // '');
	is(look($t), $before, "$name: nothing is changed here");
	is($node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', action, state, label, payload, reason), E'\n') FROM integration_run_items WHERE step = 'in' AND run_id = $run"), '',
		"$name: and nothing is to be");
	is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', label, field, base, ours, theirs), E'\n') FROM integration_conflicts WHERE state = 'open'}), '', "$name: no conflict");
	$sim->reset_counters;
	$row = publish_and_wait($node, 'postgres', $city);
	is("$row->{to_create} $row->{to_update}", '0 0', "$name: nothing is to be sent")
	  or diag($node->safe_psql('postgres', "SELECT concat_ws(' ', action, state, label, payload, reason) FROM integration_run_items WHERE run_id = $row->{id} AND action IN ('CREATE', 'UPDATE')"));
	is($sim->stats->{writes}, 0, "$name: and is not");
	return;
}

for my $rules ([ 1, 0 ], [ 1, 1 ], [ 0, 0 ])
{
	my ($retired, $derived) = @$rules;
	my $node = new_cluster(name => "echo_$retired$derived", conf => "pgsync_itsm.debounce = 0\n");
	my $sim = start_simulator(options => [ '--switch', "retired_sync=" . ($retired ? 'true' : 'false'), '--switch', "life_cycle_sync=" . ($derived ? 'true' : 'false') ]);
	my %t = (node => $node, sim => $sim);
	load_platform($sim);
	# an instance whose life cycles were never mapped: all of them come out as TBD
	$sim->post('/__sim/delete', { life_cycle_mapping => [ map { $_->{sys_id} } @{ $sim->dump('life_cycle_mapping')->{life_cycle_mapping} } ] }) if $derived;
	load_getinsync($node, 'postgres');
	my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);
	for my $write (qw(both pair legacy))
	{
		my $name = "$write, retired_sync=$retired, life_cycle_sync=$derived";
		$node->safe_psql('postgres', "SELECT itsm_set('$conn', 'life_cycle_write', '$write'), itsm_set('$conn', 'sync_direction', 'both')");
		round(\%t, "$name: at first");
		round(\%t, "$name: retired", "UPDATE applications SET operational_status = 'retired' WHERE id = '$sage'");
		if ($derived && $write ne 'pair')
		{
			my ($tbd) = map { $_->{sys_id} } grep { $_->{name} eq 'TBD' } @{ $sim->dump('life_cycle_stage')->{life_cycle_stage} };
			is(scalar(grep { $_->{correlation_id} eq $sage && $_->{life_cycle_stage} eq $tbd } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }),
				1, "$name: the platform made something else of it");
		}
		round(\%t, "$name: revived", "UPDATE applications SET operational_status = 'operational' WHERE id = '$sage'");
		round(\%t, "$name: a profile is out of operation", "UPDATE deployment_profiles SET operational_status = 'non-operational' WHERE application_id = '$sage'");
		round(\%t, "$name: and in", "UPDATE deployment_profiles SET operational_status = 'operational' WHERE application_id = '$sage'");
	}
	$node->stop;
	$sim->stop;
}
done_testing();
