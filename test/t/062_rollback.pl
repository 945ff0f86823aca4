# A publish is rolled back over HTTP: the platform is as it was before, but for what somebody edited there meanwhile;
# twice does nothing; retiring instead of deleting; an update undone field by field; a removed relationship made again;
# the worker killed in the middle; one CI a call; and a publish afterwards, without duplicates.
#
# Not compared: columns that begin with sys_ (stamps, counters), when a CI was last discovered, and the platform's own
# bookkeeping: sys_object_source (it keeps the native keys of deleted CIs) and sys_audit_delete.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $city = '11111111-1111-4111-8111-111111111111';
my %bookkeeping = map { $_ => 1 } qw(sys_object_source sys_audit_delete);

sub platform
{
	my (%opt) = @_;
	my $sim = start_simulator(roles => $opt{roles} // 'itil,contract_manager,asset,sn_cmdb_admin',
		options => [ '--user', 'jane.doe:hers:itil,contract_manager,asset', '--switch', 'choice_cache_seconds=0', @{ $opt{options} // [] } ]);
	# in this instance the role itil may delete companies
	$sim->load({ acl => [ { table => 'core_company', operation => 'delete', roles => ['itil'] } ] }) unless $opt{closed};
	load_platform($sim);
	return $sim;
}

sub city
{
	my ($node, $sim, %settings) = @_;
	load_getinsync($node, 'postgres');
	return connect_and_activate($node, 'postgres', $sim, namespace => $city, delete_roles => 'itil', %settings);
}

# What somebody with an account of her own does there.
sub by_hand
{
	my ($sim, $method, $path, $body) = @_;
	my $answer = HTTP::Tiny->new(proxy => undef, http_proxy => undef)->request($method, $sim->url . "/api/now/table/$path",
		{ headers => { 'authorization' => 'Basic ' . encode_base64('jane.doe:hers', ''), 'accept' => 'application/json', 'content-type' => 'application/json' },
			content => $body ? encode_json($body) : '' });
	die "$method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content} ? decode_json($answer->{content})->{result} : undef;
}

# Everything that is there, without system columns: table/sys_id => JSON.
sub picture
{
	my ($sim) = @_;
	my %picture;
	my @tables = grep { !$bookkeeping{$_} } sort keys %{ $sim->stats->{records} };
	my $dump = $sim->dump(@tables);
	for my $table (sort keys %$dump)
	{
		for my $row (@{ $dump->{$table} })
		{
			my %kept = map { $_ => $row->{$_} } grep { !/^sys_/ && $_ ne 'last_discovered' && $_ ne 'first_discovered' && $row->{$_} ne '' } keys %$row;
			$picture{"$table/$row->{sys_id}"} = JSON::PP->new->canonical->encode(\%kept);
		}
	}
	return \%picture;
}

# What differs, as a list of lines.
sub differences
{
	my ($before, $after) = @_;
	return join "\n", map { ($before->{$_} // '-') eq ($after->{$_} // '-') ? () : "$_: " . ($before->{$_} // '-') . ' => ' . ($after->{$_} // '-') }
	  sort keys %{ { %$before, %$after } };
}

# Names of everything that is there; of records that only the platform made after a change of names: none.
sub names
{
	my ($picture) = @_;
	return join "\n", sort map { my ($table) = m{^([^/]+)/}; my $row = JSON::PP->new->decode($picture->{$_}); "$table: " . ($row->{name} // $row->{vendor_contract} // '') } keys %$picture;
}

sub unique
{
	my ($sim, $when) = @_;
	my $d = $sim->stats->{duplicates};
	is($d->{$_}{count}, 0, "no duplicates $when: $_") or diag(explain($d->{$_})) for qw(correlation_id relations merged);
	return;
}

# The name of the life-cycle stage of a row.
sub stage
{
	my ($sim, $row) = @_;
	my ($hit) = grep { $_->{sys_id} eq $row->{life_cycle_stage} } @{ $sim->dump('life_cycle_stage')->{life_cycle_stage} };
	return $hit ? $hit->{name} : '?';
}

# itsm_rollback() to the planned run: its row; undef if there was nothing to undo.
sub plan_rollback
{
	my ($node, $args) = @_;
	my $last = $node->safe_psql('postgres', 'SELECT coalesce(max(id), 0) FROM integration_runs');
	$node->safe_psql('postgres', "SELECT count(*) FROM itsm_rollback($args)");
	my $run = $node->safe_psql('postgres', "SELECT id FROM integration_runs WHERE id > $last AND kind = 'rollback'");
	return $run ? wait_for_run($node, 'postgres', $run) : undef;
}

sub apply
{
	my ($node, $run) = @_;
	$node->safe_psql('postgres', "SELECT itsm_apply($run->{id})");
	my $row = wait_for_run($node, 'postgres', $run->{id}, states => [qw(done failed cancelled)]);
	is($row->{status}, 'done', 'it ends') or diag($row->{error_message});
	return $row;
}

sub lines
{
	my ($node, $sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub not_done
{
	my ($node, $run) = @_;
	return lines($node, "SELECT entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND state NOT IN ('done', 'unchanged') ORDER BY id");
}

# ---- by deletion, in bulk ------------------------------------------------------------------------

my $node = new_cluster();
my $sim  = platform();
my $conn = city($node, $sim);
my $before = picture($sim);
my $publish = publish_and_wait($node, 'postgres', $city);
is($publish->{status}, 'done', 'published');
cmp_ok($publish->{done}, '>', 60, 'all of the sample');

# two that nothing else depends on for being deleted: an application and a contract
my ($app) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us AND coalesce(last_agreed ->> 'vendor', '') = '' AND last_agreed ->> 'short_description' <> '' ORDER BY native_key LIMIT 1");
my ($table, $service) = split /\|/, lines($node, "SELECT external_table, external_id FROM integration_sync_map WHERE entity_type = 'deployment_profile' AND created_by_us ORDER BY native_key LIMIT 1");
by_hand($sim, 'PATCH', "cmdb_ci_business_app/$app", { short_description => 'Ours, from today on' });
by_hand($sim, 'PATCH', "$table/$service", { comments => 'Do not touch' });
my $edited = picture($sim);

my $run = plan_rollback($node, "$publish->{id}, method => 'delete'");
is($run->{status}, 'planned', 'a rollback is planned and waits');
like($run->{summary}, qr/^would delete \d+, retire 0, restore 0, remove \d+ relationships; 2 changed there since and stay/, 'its summary');
note($run->{summary});
is(lines($node, "SELECT action, state, external_id, reason FROM integration_run_items WHERE run_id = $run->{id} AND state = 'held' ORDER BY ord, id"),
	"DELETE|held|$service|changed there since by jane.doe\nDELETE|held|$app|changed there since: short_description (by jane.doe)", 'the two are held, and nothing else');
is_deeply(picture($sim), $edited, 'nothing was done yet');
apply($node, $run);
is(not_done($node, $run), lines($node, "SELECT entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND state IN ('held', 'skipped') ORDER BY id"), 'all of it went through');
my $after = picture($sim);
my %but = map { $_ => $after->{$_} } grep { m{/(\Q$app\E|\Q$service\E)$} } keys %$after;
is(scalar(keys %but), 2, 'the two are there');
is($but{$_}, $edited->{$_}, 'as they were edited') for sort keys %but;
is(differences($before, { map { $_ => $after->{$_} } grep { !$but{$_} } keys %$after }), '', 'everything else is as it was before the publish');
is(lines($node, "SELECT count(*) FROM integration_sync_log WHERE run_id = $run->{id} AND operation = 'delete' AND status = 'success'"),
	lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state IN ('done', 'unchanged') AND action = 'DELETE'"), 'each deletion is logged');
is(lines($node, "SELECT count(*) FROM integration_sync_log WHERE run_id = $run->{id} AND operation = 'delete' AND entity_type = 'application' AND coalesce(request_payload ->> 'name', '') = ''"), '0', 'with what was there');

# twice does nothing
my $writes = $sim->stats->{writes};
my $second = plan_rollback($node, "$publish->{id}, method => 'delete'");
is(lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $second->{id} AND state <> 'held' AND state <> 'skipped'"), '0', 'a second rollback has nothing to do but the two');
apply($node, $second);
is($sim->stats->{writes}, $writes, 'and writes nothing');

# a publish afterwards
my $again = publish_and_wait($node, 'postgres', $city);
is($again->{status}, 'done', 'published again');
is($again->{dead}, $publish->{dead}, 'as well as before') or diag(lines($node, "SELECT entity_type, label, error_class, reason FROM integration_run_items WHERE run_id = $again->{id} AND state = 'dead'"));
unique($sim, 'after publishing again');
my $now = picture($sim);
my $count = sub { my %n; $n{ (split m{/})[0] }++ for keys %{ $_[0] }; return \%n };
is_deeply($count->($now), $count->($edited), 'as many records and relationships as after the first publish');
is(names($now), names($edited), 'of the same names');

# the second publish is undone as well, now by retiring; what is not retired stays
$run = plan_rollback($node, "$again->{id}");
like($run->{summary}, qr/^would delete 0, retire [1-9]\d+, restore 0, remove [1-9]\d+ relationships/, 'a rollback that retires');
apply($node, $run);
is(lines($node, "SELECT state, count(*) FROM integration_run_items WHERE run_id = $run->{id} AND action <> 'SKIP' GROUP BY 1 ORDER BY 1"),
	'done|' . ($run->{to_update} + $run->{to_delete}), 'all of it went through');
my @apps = grep { $_->{correlation_id} } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
my %retired = map { $_->{value} => 1 } grep { $_->{label} eq 'Retired' && $_->{element} eq 'operational_status' } @{ $sim->dump('sys_choice')->{sys_choice} };
is(scalar(grep { !$retired{ $_->{operational_status} } } @apps), 2 - 1, 'applications are retired, but for the one that was edited');
cmp_ok(scalar(grep { $_->{life_cycle_stage} } @apps), '>', 20, 'by life cycle as well');
is(scalar(grep { $_->{life_cycle_stage} && $_->{sys_id} ne $app && stage($sim, $_) ne 'End of Life' } @apps), 0, 'which has ended');
is(lines($node, "SELECT DISTINCT state FROM integration_sync_map WHERE entity_type = 'application' AND external_id <> '$app'"), 'retired', 'the map knows');
is(plan_rollback($node, "$again->{id}"), undef, 'a second time there is nothing to retire');

# and what was retired can be deleted after all
$run = plan_rollback($node, "$again->{id}, 'delete'");
apply($node, $run);
$after = picture($sim);
delete @{$after}{ keys %but };
is(differences($before, $after), '', 'deleted after having been retired: all is as it was before');
is(plan_rollback($node, "$again->{id}, 'delete'"), undef, 'and there is nothing left to undo');
$sim->stop;
$node->stop;

# ---- updates, a removed relationship, others' relationships, rights ----------------------------------

for my $api (qw(ire instance))
{
	updates($api);
}
rights();
unreadable();
others();
killed($_) for qw(ire instance);
done_testing();

sub updates
{
	my ($api) = @_;
	my $node = new_cluster();
	my $sim  = platform();
	my $conn = city($node, $sim, write_api => $api);
	my $first = publish_and_wait($node, 'postgres', $city);
	my ($one, $three) = map { "aaaaaaaa-0001-4000-8000-0000000000$_" } qw(01 08);
	my $two = lines($node, "SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application' AND last_agreed ->> 'short_description' <> ''
		AND entity_id NOT IN ('$one', '$three') ORDER BY native_key LIMIT 1");
	my ($sys1, $sys2, $sys3) = map { lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_id = '$_' AND entity_type = 'application'") } $one, $two, $three;
	ok($sys1 && $sys2 && $sys3, "$api: three applications are published");
	$node->safe_psql('postgres', "UPDATE applications SET short_description = '' WHERE id = '$three'");
	publish_and_wait($node, 'postgres', $city);
	my $before = picture($sim);

	# two fields each; one that was empty there; one that is emptied; a link that goes
	$node->safe_psql('postgres', "UPDATE applications SET short_description = 'Changed here', operational_status = 'pipeline' WHERE id IN ('$one', '$two')");
	$node->safe_psql('postgres', "UPDATE applications SET short_description = 'Was empty' WHERE id = '$three'");
	my $contract = lines($node, "SELECT entity_id FROM integration_sync_map WHERE entity_type = 'contract' AND created_by_us ORDER BY native_key LIMIT 1");
	my $profile = lines($node, "SELECT m.entity_id FROM integration_sync_map m WHERE m.entity_type = 'deployment_profile' AND m.last_agreed ->> 'version' <> '' ORDER BY m.native_key LIMIT 1");
	$node->safe_psql('postgres', "UPDATE deployment_profiles SET version = NULL WHERE id = '$profile'") if $profile;
	my ($parent, $child) = split /\|/, lines($node, "SELECT l.deployment_profile_id, l.it_service_id FROM deployment_profile_it_services l
		JOIN integration_sync_map m ON m.entity_type = 'depends_on' AND m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id AND m.created_by_us ORDER BY 1, 2 LIMIT 1");
	$node->safe_psql('postgres', "DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = '$parent' AND it_service_id = '$child'");
	my $update = publish_and_wait($node, 'postgres', $city);
	is($update->{status}, 'done', "$api: a run of updates");
	is($update->{to_delete}, 1, "$api: that removes a relationship");
	isnt(differences($before, picture($sim)), '', "$api: which show");
	by_hand($sim, 'PATCH', "cmdb_ci_business_app/$sys2", { short_description => 'Hers' });
	my $run = plan_rollback($node, $update->{id});
	like($run->{summary}, qr/^would delete 0, retire 0, restore $update->{to_update}, remove 0 relationships, make 1 again; 1 changed there since and stay/, "$api: the inverse of it");
	is(lines($node, "SELECT action, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND entity_id = '$two' ORDER BY action"),
		"MISMATCH|held|changed there since: short_description\nUPDATE|planned|", "$api: what was edited stays, the other fields of it go back");
	apply($node, $run);
	is(lines($node, "SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND state NOT IN ('done', 'held', 'skipped')"), '', "$api: all went through");
	my $now = picture($sim);
	my ($was, $is) = map { [ sort map { s/^[^{]*//r } grep { /"parent"/ && /"child"/ } values %$_ ] } $before, $now;
	is_deeply($is, $was, "$api: the relationships are those of before");
	delete @{$_}{ grep { m{^cmdb_rel_ci/} } keys %$_ } for $before, $now;
	my $key = "cmdb_ci_business_app/$sys2";
	my ($mine, $hers) = map { JSON::PP->new->decode($_->{$key}) } $before, $now;
	is($hers->{short_description}, 'Hers', "$api: her words are there");
	is($hers->{operational_status}, $mine->{operational_status}, "$api: and the status of before");
	delete $_->{$key} for $before, $now;
	is(differences($before, $now), '', "$api: field by field, all else is as it was before");
	is(lines($node, "SELECT action, state, field, old_value, new_value FROM itsm_plan($run->{id}) WHERE entity_id = '$three' AND field = 'short_description'"),
		'CLEAR|done|short_description|Was empty|', "$api: what was empty is cleared");
	my $second = plan_rollback($node, $update->{id});
	is($second ? lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $second->{id} AND state = 'planned'") : 0, 0, "$api: a second time there is nothing to restore");
	$node->safe_psql('postgres', "SELECT itsm_cancel($second->{id})") if $second;
	is(plan_rollback($node, "$first->{id}, 'delete'")->{summary} =~ /; (\d+) changed by a later run/ ? $1 : 0, 1, "$api: of the runs before, only what a later one has changed and was not undone stays");
	# what was undone is sent again by the next publish, and by it alone
	my $again = publish_and_wait($node, 'postgres', $city);
	is(join(' ', map { $again->{$_} } qw(to_create to_delete)), '0 1', "$api: the next publish makes it so again");
	is($again->{to_update}, $update->{to_update} - 1, "$api: updates, too");
	like(lines($node, "SELECT action || ' ' || reason FROM integration_run_items WHERE run_id = $again->{id} AND entity_id = '$two'"),
		qr/^MISMATCH edited there since the last sync.*short_description \(there "Hers"\)/, "$api: but for what she has edited");
	$sim->stop;
	$node->stop;
	return;
}

# What others relate to a record keeps it; a right that is missing is known before anything is sent.
sub rights
{
	my $node = new_cluster();
	my $sim  = platform(closed => 1);
	my $conn = city($node, $sim);
	$node->safe_psql('postgres', "SELECT itsm_set('$conn', 'delete_roles', NULL)");
	my $publish = publish_and_wait($node, 'postgres', $city);
	my ($service, $label) = split /\|/, lines($node, "SELECT external_id, published_name FROM integration_sync_map WHERE entity_type = 'it_service' AND created_by_us ORDER BY native_key LIMIT 1");
	my $type = $sim->dump('cmdb_rel_type')->{cmdb_rel_type}[0]{sys_id};
	my $link = by_hand($sim, 'POST', 'cmdb_rel_ci', { parent => 'dddd0000000000000000000000000001', child => $service, type => $type });
	# a CI of hers is of a vendor that we have made
	my ($vendor) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'company' AND created_by_us ORDER BY native_key LIMIT 1");
	by_hand($sim, 'PATCH', 'cmdb_ci_service_auto/dddd0000000000000000000000000001', { vendor => $vendor });
	my $run = plan_rollback($node, "$publish->{id}, 'delete'");
	is(lines($node, "SELECT label, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND external_id = '$service'"),
		"$label|held|\"Weather Station Feed\" relates to it there and is not ours (cmdb_rel_ci $link->{sys_id})", 'what others relate to a record keeps it');
	is(lines($node, "SELECT DISTINCT state, reason FROM integration_run_items WHERE run_id = $run->{id} AND entity_type = 'company' AND action = 'DELETE'"),
		"held|the integration user has no role that allows deleting companies (admin): grant one, name your own in the setting delete_roles, or use method => 'retire'", 'a right that is missing');
	apply($node, $run);
	is(lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state = 'dead'"), '0', 'nothing was refused there');

	# the roles allow it, the platform does not: an outcome
	$node->safe_psql('postgres', "SELECT itsm_set('$conn', 'delete_roles', 'itil')");
	$run = apply($node, plan_rollback($node, "$publish->{id}, 'delete'"));
	is(lines($node, "SELECT state, reason FROM integration_run_items WHERE run_id = $run->{id} AND external_id = '$vendor'"),
		'held|"Weather Station Feed" refers to it there and is not ours (cmdb_ci dddd0000000000000000000000000001)', 'what others refer to is kept, too');
	is(lines($node, "SELECT DISTINCT entity_type, state, error_class FROM integration_run_items WHERE run_id = $run->{id} AND state = 'dead'"), 'company|dead|HTTP_403', 'a refusal is an outcome');
	$sim->load({ acl => [ { table => 'core_company', operation => 'delete', roles => ['itil'] } ] });
	is(lines($node, "SELECT itsm_requeue($run->{id}) > 0"), 't', 'what was refused is queued again');
	$run = wait_for_run($node, 'postgres', $run->{id}, states => ['done']);
	is($run->{dead}, 0, 'and goes through');
	$sim->stop;
	$node->stop;
	return;
}

# What may not be read is not taken for gone, nor for used by nobody.
sub unreadable
{
	my $node = new_cluster();
	my $sim  = platform();
	my $conn = city($node, $sim);
	my $publish = publish_and_wait($node, 'postgres', $city);
	my ($vendor, $other) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map AS m WHERE m.entity_type = 'company' AND m.created_by_us ORDER BY m.native_key");
	my ($app) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us AND coalesce(last_agreed ->> 'vendor', '') = '' ORDER BY native_key LIMIT 1");
	by_hand($sim, 'PATCH', 'cmdb_ci_service_auto/dddd0000000000000000000000000001', { vendor => $vendor });
	by_hand($sim, 'PATCH', "cmdb_ci_business_app/$app", { short_description => 'Hers, and secret' });
	$sim->load({ acl => [ { table => 'cmdb_ci_service_auto', hide => 'sys_id=dddd0000000000000000000000000001' }, { table => 'cmdb_ci_business_app', hide => "sys_id=$app" } ] });
	my $run = plan_rollback($node, "$publish->{id}, 'delete'");
	is(lines($node, "SELECT state, reason FROM integration_run_items WHERE run_id = $run->{id} AND external_id = '$app'"),
		'held|cmdb_ci_business_app may not be read there: what it is like now is not known', 'a record that is hidden is not taken for gone');
	like(lines($node, "SELECT state, reason FROM integration_run_items WHERE run_id = $run->{id} AND external_id = '$vendor'"),
		qr/^held\|whether others refer to it cannot be seen there: 1 of \d+ rows of cmdb_ci are hidden/, 'one to which something refers that is hidden is not taken for unused');
	apply($node, $run);
	is(scalar(grep { $_->{sys_id} eq $app } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }), 1, 'the record is there');
	is(scalar(grep { $_->{sys_id} eq $vendor } @{ $sim->dump('core_company')->{core_company} }), 1, 'and the company');
	cmp_ok($run->{to_delete}, '>', 50, 'the rest goes');
	$sim->stop;
	$node->stop;
	return;
}

# What others have done with what we made: a user of theirs now, a vendor of their choice, and an edit that a later write of ours hides.
sub others
{
	my $node = new_cluster();
	my $sim  = platform(roles => 'itil,contract_manager,asset,sn_cmdb_admin,user_admin');
	my $conn = city($node, $sim, create_contacts => 'true');
	$node->safe_psql('postgres', "UPDATE contacts SET email = 'new.' || email WHERE namespace_id = '$city'");
	my $publish = publish_and_wait($node, 'postgres', $city);
	my ($owner, $helper, $nobody) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'contact' AND created_by_us
		AND external_id NOT IN (SELECT v.value FROM integration_sync_map AS m, json_each_text(m.last_agreed) AS v WHERE NOT m.created_by_us) ORDER BY native_key LIMIT 3");
	ok($nobody, 'three users are made');
	by_hand($sim, 'PATCH', 'cmdb_ci_service_auto/dddd0000000000000000000000000001', { managed_by => $owner, supported_by => $helper });
	my ($app, $edited) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us AND coalesce(last_agreed ->> 'vendor', '') = '' ORDER BY native_key LIMIT 2");
	my ($vendor) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'company' AND created_by_us ORDER BY native_key DESC LIMIT 1");
	by_hand($sim, 'PATCH', "cmdb_ci_business_app/$app", { vendor => $vendor });
	by_hand($sim, 'PATCH', "cmdb_ci_business_app/$edited", { asset_tag => 'Hers' });
	$node->safe_psql('postgres', "UPDATE applications SET short_description = 'Written later' WHERE id = (SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application' AND external_id = '$edited')");
	my $later = publish_and_wait($node, 'postgres', $city);
	apply($node, plan_rollback($node, $later->{id}));
	my ($row) = grep { $_->{sys_id} eq $edited } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
	is("$row->{asset_tag} $row->{sys_updated_by} $row->{sys_mod_count}", "Hers $row->{sys_created_by} 4", 'we wrote last');

	my $run = plan_rollback($node, "$publish->{id}, 'delete'");
	my $why = sub { lines($node, "SELECT state, reason FROM integration_run_items WHERE run_id = $run->{id} AND external_id = '$_[0]'") };
	my $ci = '(cmdb_ci dddd0000000000000000000000000001)';
	is($why->($owner), qq{held|"Weather Station Feed" refers to it there and is not ours $ci}, 'a user who manages a CI of others stays');
	is($why->($helper), qq{held|"Weather Station Feed" refers to it there and is not ours $ci}, 'and one who supports it');
	is($why->($nobody), 'planned|', 'but not one of whom nobody knows');
	like($why->($vendor), qr/^held\|".*" refers to it there and was changed by others \(cmdb_ci $app\)$/, 'a company that somebody gave to a record of ours stays');
	is($why->($edited), 'held|changed there since by jane.doe, and by us after that', 'an edit before a later write of ours is seen');
	apply($node, $run);
	is(lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state = 'dead'"), '0', 'nothing was refused there');
	is(scalar(grep { $_->{sys_id} =~ /^(\Q$owner\E|\Q$helper\E|\Q$nobody\E)$/ } @{ $sim->dump('sys_user')->{sys_user} }), 2, 'two of the three users are there');
	$sim->stop;
	$node->stop;
	return;
}

# The worker is killed again and again while a rollback is applied.
sub killed
{
	my ($api) = @_;
	my $node = new_cluster(conf => "pgsync_itsm.retry_delay = '50ms'\npgsync_itsm.retry_delay_max = '500ms'\n");
	my $sim  = platform(options => [ '--switch', 'latency_ms=0' ]);
	my $conn = city($node, $sim, write_api => $api, batch_items => 3);
	my $before = picture($sim);
	my $publish = publish_and_wait($node, 'postgres', $city);
	my $run = plan_rollback($node, "$publish->{id}, 'delete'");
	$sim->post('/__sim/switches', { latency_ms => 60 });
	$node->safe_psql('postgres', "SELECT itsm_apply($run->{id})");
	my ($kills, %at) = (0);
	my $ended = sub { my $s = ''; $node->psql('postgres', "SELECT status FROM integration_runs WHERE id = $run->{id}", stdout => \$s); return $s =~ /done|failed/ };
	while ($kills < 5)
	{
		my $pid = poll_until(sub { my $p = ''; $node->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm worker%' AND datname = 'postgres'", stdout => \$p); return $p || $ended->() && -1 });
		last if $pid < 0;
		my $seen = $sim->stats->{writes};
		poll_until(sub { $sim->stats->{writes} > $seen + 2 || $ended->() }, seconds => 20);
		last if $ended->();
		my $n = '';
		$node->psql('postgres', "SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state = 'done'", stdout => \$n);
		$at{$n}++;
		kill('KILL', $pid) and $kills++;
		poll_query($node, 'postgres', 'SELECT 1', '1');
	}
	is($kills, 5, "$api: killed five times within the rollback, at " . join(', ', sort { $a <=> $b } keys %at));
	$sim->post('/__sim/switches', { latency_ms => 0 });
	my $row = wait_for_run($node, 'postgres', $run->{id}, states => [qw(done failed cancelled)]);
	is($row->{status}, 'done', "$api: it completes");
	is($row->{dead}, 0, "$api: with nothing dead");
	is(differences($before, picture($sim)), '', "$api: and all is as it was before the publish");
	is(lines($node, "SELECT count(*) FROM integration_sync_map WHERE created_by_us"), '0', "$api: here, too");
	$sim->stop;
	$node->stop;
	return;
}
