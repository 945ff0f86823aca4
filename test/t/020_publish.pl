# Breaks nothing; publishes the sample city with both write strategies and compares, set against set, what the
# simulated CMDB holds with what the portfolio's own tables say.  What the run held, skipped or could not send is
# taken out by name, and each of those names has to have a reason.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';

# correlation ids that a table of the simulator holds, sorted
sub correlations
{
	my ($rows, %skip) = @_;
	return [ sort grep { $_ ne '' && !$skip{$_} } map { $_->{correlation_id} // '' } @$rows ];
}

# Records of one type that the portfolio wants there, less those that the run put aside.
sub wanted
{
	my ($node, $run, $type, $query) = @_;
	my %aside = map { $_ => 1 } split /\n/, $node->safe_psql('postgres',
		"SELECT entity_id FROM integration_run_items WHERE run_id = $run AND entity_type = '$type'"
		  . " AND state NOT IN ('done', 'unchanged')");
	return [ sort grep { !$aside{$_} } split /\n/, $node->safe_psql('postgres', $query) ];
}

# Relationships there as "parent > child : type", by correlation ids.
sub relations_there
{
	my ($sim) = @_;
	my @ci_tables = qw(cmdb_ci_business_app cmdb_ci_service_auto cmdb_ci_service_technical service_offering cmdb_ci_spkg);
	my $all = $sim->dump(@ci_tables, 'cmdb_rel_ci', 'cmdb_rel_type');
	my %name = map { $_->{sys_id} => $_->{name} } @{ $all->{cmdb_rel_type} };
	my %id = map { $_->{sys_id} => $_->{correlation_id} || "unknown $_->{name}" } map { @{ $all->{$_} } } @ci_tables;
	return [ sort map { ($id{ $_->{parent} } // 'orphan') . ' > ' . ($id{ $_->{child} } // 'orphan') . " : $name{ $_->{type} }" }
		  @{ $all->{cmdb_rel_ci} } ];
}

sub relations_wanted
{
	my ($node, $run) = @_;
	my %query = (
		consumes => "SELECT p.application_id || ' > ' || p.id || ' : Consumes::Consumed by' AS k, p.application_id AS a, p.id AS b
			FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id
			WHERE w.namespace_id = '$city' AND p.application_id IS NOT NULL AND p.sn_sync_scope = 'application_service'
			AND p.dp_type <> 'cost_bundle'",
		depends_on => "SELECT DISTINCT l.deployment_profile_id || ' > ' || l.it_service_id || ' : Depends on::Used by',
			l.deployment_profile_id, l.it_service_id
			FROM deployment_profile_it_services l JOIN deployment_profiles p ON p.id = l.deployment_profile_id
			JOIN workspaces w ON w.id = p.workspace_id WHERE w.namespace_id = '$city'",
		runs_on => "SELECT DISTINCT l.deployment_profile_id || ' > ' || l.software_product_id || ' : Runs on::Runs',
			l.deployment_profile_id, l.software_product_id
			FROM deployment_profile_software_products l JOIN deployment_profiles p ON p.id = l.deployment_profile_id
			JOIN workspaces w ON w.id = p.workspace_id WHERE w.namespace_id = '$city'");
	my @wanted;
	for my $type (sort keys %query)
	{
		# Both ends have to be published: that is decided by the map, the pairs by the portfolio alone.
		push @wanted, split /\n/, $node->safe_psql('postgres',
			"SELECT q.k FROM ($query{$type}) AS q(k, a, b)
			  WHERE EXISTS (SELECT FROM integration_sync_map m WHERE m.entity_id = q.a AND m.entity_type IN ('application', 'deployment_profile'))
			    AND EXISTS (SELECT FROM integration_sync_map m WHERE m.entity_id = q.b AND m.entity_type IN ('deployment_profile', 'it_service', 'software_package'))");
	}
	return [ sort @wanted ];
}

for my $strategy (qw(ire instance))
{
	my $node = new_cluster(name => "publish_$strategy");
	my $sim  = start_simulator();
	load_platform($sim);
	load_getinsync($node, 'postgres');
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

	my $there = $sim->dump(qw(cmdb_ci_business_app cmdb_ci_service_auto cmdb_ci_service_technical service_offering
		  cmdb_ci_spkg cmdb_software_product_model ast_contract core_company));
	is_deeply(correlations($there->{cmdb_ci_business_app}),
		wanted($node, $id, 'application',
			"SELECT a.id FROM applications a JOIN workspaces w ON w.id = a.workspace_id WHERE w.namespace_id = '$city'
			    AND a.management_classification IN ('apm', 'alm')"),
		"$strategy: business applications are those of the portfolio");
	for my $scope ([ application_service => 'cmdb_ci_service_auto' ], [ technical_service => 'cmdb_ci_service_technical' ])
	{
		is_deeply(correlations($there->{ $scope->[1] }),
			wanted($node, $id, 'deployment_profile',
				"SELECT p.id FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id
				  WHERE w.namespace_id = '$city' AND p.sn_sync_scope = '$scope->[0]' AND p.dp_type <> 'cost_bundle'"),
			"$strategy: $scope->[1] holds the profiles of scope $scope->[0]");
	}
	is_deeply(correlations($there->{cmdb_ci_spkg}),
		wanted($node, $id, 'software_package',
			"SELECT DISTINCT l.software_product_id FROM deployment_profile_software_products l
			   JOIN software_products s ON s.id = l.software_product_id WHERE s.namespace_id = '$city'"),
		"$strategy: software packages are the linked products");
	is_deeply([ grep { /^[0-9a-f-]{36}$/ } @{ correlations($there->{service_offering}) } ],
		[ sort @{ wanted($node, $id, 'it_service',
				"SELECT id FROM it_services WHERE namespace_id = '$city' AND (sn_sync_scope IS NULL AND NOT is_internal_only OR sn_sync_scope = 'technical_service_offering')") },
			@{ wanted($node, $id, 'deployment_profile',
				"SELECT p.id FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id
				  WHERE w.namespace_id = '$city' AND p.sn_sync_scope = 'technical_service_offering' AND p.dp_type <> 'cost_bundle'") } ],
		"$strategy: offerings are the shared services and the profiles of that scope");
	is_deeply(relations_there($sim),
		[ sort @{ relations_wanted($node, $id) }, split /\n/, $node->safe_psql('postgres',
			"SELECT parent_id || ' > ' || child_id || ' : ' || rel_type FROM integration_sync_map WHERE entity_type = 'sends_data_to'") ],
		"$strategy: one row per relationship, and no other");
	is(scalar(grep { /orphan|unknown/ } @{ relations_there($sim) }), 0, "$strategy: no relationship without its ends");

	my $stats = $sim->stats;
	is($stats->{duplicates}{$_}{count}, 0, "$strategy: no duplicates by $_") for qw(correlation_id native_key relations);
	is($stats->{orphans}{relations}{count}, 0, "$strategy: no orphaned relationship");

	# what was there before and is not ours is as it was
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
