# Breaks nothing; publishes the sample city with both write strategies and compares, set against set, what the
# simulated CMDB holds with what the portfolio's own tables say.  What the run held, skipped or could not send is
# taken out by name, and each of those names has to have a reason.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmCompare;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';

for my $strategy (qw(ire instance))
{
	my $node = new_cluster(name => "publish_$strategy");
	my $sim  = start_simulator();
	load_platform($sim);
	load_getinsync($node, 'postgres');
	my $known  = remember($sim);
	my $before = $sim->dump(qw(cmdb_ci_business_app service_offering cmdb_software_product_model cmdb_ci_service_auto));
	my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, write_api => $strategy);
	my $run  = publish_and_wait($node, 'postgres', $city);
	my $id   = $run->{id};

	is($run->{status}, 'done', "$strategy: the run ends");
	note("$strategy: $run->{requests} requests, $run->{write_requests} writing, $run->{subrequests} inside batches; $run->{summary}");

	is($node->safe_psql('postgres',
			"SELECT count(*) FROM integration_run_items WHERE run_id = $id AND state IN ('dead', 'held', 'skipped') AND reason IS NULL"),
		'0', "$strategy: whatever was put aside has a reason");
	is($node->safe_psql('postgres',
			"SELECT string_agg(entity_type || ' ' || label || ': ' || coalesce(error_class, '') || ' ' || reason, E'\\n' ORDER BY label)
			   FROM integration_run_items WHERE run_id = $id AND state = 'dead' AND action <> 'ERROR'"),
		'', "$strategy: nothing was refused by the platform");

	both_sides_equal($node, 'postgres', $city, $sim, $known, aside => put_aside($node, 'postgres', $id),
		name => "$strategy: the platform has what the portfolio wants there, and nothing else");

	# what was there before and is not ours is as it was
	my $there = $sim->dump(qw(cmdb_ci_business_app cmdb_ci_service_auto service_offering cmdb_software_product_model ast_contract core_company));
	for my $table (sort keys %$before)
	{
		my %now = map { $_->{sys_id} => $_ } @{ $there->{$table} };
		is_deeply([ map { $now{ $_->{sys_id} } } @{ $before->{$table} } ], $before->{$table},
			"$strategy: records of others in $table are untouched");
	}

	# what must never leave
	my $everything = join ' ', map { JSON::PP->new->canonical->encode($_) } @{ $sim->get('/__sim/requests?n=100000')->{requests} // [] };
	my @internal = split /\n/, $node->safe_psql('postgres',
		"SELECT o.name FROM organizations o WHERE o.namespace_id = '$city' AND o.is_internal");
	is(scalar(grep { my $n = $_; grep { ($_->{name} // '') eq $n } @{ $there->{core_company} } } @internal), 0,
		"$strategy: no company for an internal organization");
	is(scalar(grep { ($_->{model_id} // '') ne '' } map { @$_ } @{$there}{qw(cmdb_ci_business_app cmdb_ci_service_auto)}), 0,
		"$strategy: no model_id");
	my @chargebacks = split /\n/, $node->safe_psql('postgres',
		"SELECT DISTINCT c.contract_reference FROM product_contracts c JOIN organizations o ON o.id = c.vendor_org_id
		  WHERE o.is_internal AND c.contract_reference IS NOT NULL");
	ok(@chargebacks > 0, "$strategy: the sample has a chargeback contract");
	is(scalar(grep { my $r = $_; grep { ($_->{vendor_contract} // '') eq $r } @{ $there->{ast_contract} } } @chargebacks), 0,
		"$strategy: no chargeback contract");
	my @bundles = split /\n/, $node->safe_psql('postgres', "SELECT id FROM deployment_profiles WHERE dp_type = 'cost_bundle'");
	is(scalar(grep { my $b = $_; index($everything, $b) >= 0 } @bundles), 0, "$strategy: no cost bundle was ever sent");

	# again: nothing to write
	$sim->reset_counters;
	my $logged = $node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_log");
	my $again = publish_and_wait($node, 'postgres', $city);
	is($again->{status}, 'done', "$strategy: published again");
	is($sim->stats->{writes}, 0, "$strategy: the second publish writes nothing");
	is($node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_log"), $logged, "$strategy: and logs no write");

	$sim->stop;
	$node->stop;
}

done_testing();
