# A preview against a platform that holds part of the portfolio already, compared with an expectation that was written by
# hand (test/getinsync/preview_namesakes.tsv): which of it is to be decided, skipped, refused or made, and why.  Nothing is
# written before it is applied; what is accepted is updated and not made twice; the plan goes out as it was shown, in as
# many calls as were announced, but for what moved on either side in the meantime.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use Encode ();
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $node = new_cluster();
my $sim  = start_simulator(options => [ '--user', 'clerk:clerks-password:itil,sn_cmdb_admin' ]);
load_platform($sim);
$sim->load_file(top_dir() . '/test/getinsync/platform_namesakes.json');
load_getinsync($node, 'postgres');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_trgm');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);

# Numbers for ids: application/aaaaaaaa-0001-4000-8000-000000000001 is application/1; what is another tenant's stays as it is.
my $short = q{regexp_replace(i.native_key, '[0-9a-f]{8}-0001-4000-8000-0*([0-9]+)', '\1', 'g')};

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub sql_json
{
	my $text = sql($_[0]);
	return JSON::PP->new->decode($text) if Encode::is_utf8($text);
	return JSON::PP->new->utf8->decode($text);
}

sub preview
{
	my @runs = split /\n/, sql("SELECT itsm_preview('$city')");
	is(scalar @runs, 1, 'one run');
	my $run = wait_for_run($node, 'postgres', $runs[0]);
	is($run->{status}, 'planned', 'it is planned and not applied');
	return $run;
}

# { record => [ action, reason, state ] }
sub items
{
	my ($id) = @_;
	return sql_json("SELECT coalesce(json_object_agg($short, json_build_array(i.action, coalesce(i.reason, ''), i.state)), '{}') "
		  . "FROM integration_run_items i WHERE i.run_id = $id AND i.action <> 'CLEAR'");
}

# ( { record => [ action, reason ] } at first, the same after the decisions )
sub expectation
{
	my (%first, %second);
	for my $line (split /\n/, Encode::decode_utf8(slurp_file(top_dir() . '/test/getinsync/preview_namesakes.tsv')))
	{
		next if $line =~ /^#/;
		my ($record, $action, $reason, $later, $why) = split /\t/, $line;
		$first{$record}  = [ $action, $reason // '' ];
		$second{$record} = $later ? [ $later, $why // '' ] : $first{$record};
	}
	return (\%first, { map { $_ => $second{$_} } grep { $second{$_}[0] ne '-' } keys %second });
}

# Every row, both ways; what differs is said row by row.
sub rows_are
{
	my ($id, $wanted, $name) = @_;
	my $found = items($id);
	my @wrong;
	for my $record (sort keys %$wanted)
	{
		my ($action, $reason) = @{ $wanted->{$record} };
		my $item = $found->{$record};
		push @wrong, !$item ? "missing: $record $action ($reason)"
		  : $item->[0] ne $action || $item->[1] !~ /$reason/ ? "$record: expected $action ($reason), found $item->[0] ($item->[1])" : ();
	}
	push @wrong, map { "too many: $_ $found->{$_}[0] ($found->{$_}[1])" } grep { !$wanted->{$_} } sort keys %$found;
	is(scalar(@wrong), 0, $name) or diag(Encode::encode_utf8(join("\n", @wrong)));
}

sub counts_are
{
	my ($run, $wanted, $name) = @_;
	is_deeply({ map { $_ => $run->{$_} } keys %$wanted }, $wanted, $name);
}

# { field => [ there now, planned ] } of one record
sub fields
{
	my ($id, $type, $n) = @_;
	return sql_json("SELECT coalesce(json_object_agg(p.field, json_build_array(coalesce(p.old_value, ''), p.new_value)), '{}') FROM itsm_plan($id) p "
		  . "WHERE p.entity_type = '$type' AND p.entity_id::text LIKE '%-0001-4000-8000-' || lpad('$n', 12, '0') AND p.field IS NOT NULL");
}

sub app_id { return sprintf('aaaaaaaa-0001-4000-8000-%012d', $_[0]) }

# everything that the platform holds
sub everything
{
	my $stats = $sim->stats;
	return $sim->dump(sort keys %{ $stats->{records} });
}

sub row_there
{
	my ($table, $sys_id) = @_;
	return (grep { $_->{sys_id} eq $sys_id } @{ $sim->dump($table)->{$table} })[0];
}

# names that are there more than once
my %naming = (cmdb_ci_business_app => ['name'], cmdb_ci_service_auto => ['name'], cmdb_ci_service_technical => ['name'],
	service_offering => ['name'], cmdb_ci_spkg => ['name'], core_company => ['name'],
	cmdb_software_product_model => [ 'name', 'version' ], ast_contract => [ 'vendor', 'vendor_contract' ]);

sub twice
{
	my $all = $sim->dump(sort keys %naming);
	my %n;
	for my $table (keys %naming)
	{
		$n{ join '/', $table, map { my $v = lc($_ // ''); $v =~ s/\s+$//; $v } @{$_}{ @{ $naming{$table} } } }++ for @{ $all->{$table} };
	}
	return { map { $_ => $n{$_} } grep { $n{$_} > 1 } keys %n };
}

sub edit_there
{
	my ($method, $path, $body) = @_;
	my $answer = HTTP::Tiny->new(proxy => undef, http_proxy => undef)->request($method, $sim->url . "/api/now/table/$path", {
			headers => { authorization => 'Basic ' . encode_base64('clerk:clerks-password', ''), accept => 'application/json',
				'content-type' => 'application/json' },
			content => JSON::PP->new->utf8->encode($body) });
	BAIL_OUT("$method $path: $answer->{status} $answer->{content}") unless $answer->{success};
	return JSON::PP->new->utf8->decode($answer->{content})->{result};
}

# Applies a kept plan and compares what was announced with the calls that were counted here and there.
sub apply_as_announced
{
	my ($run, $name) = @_;
	my $before = run_row($node, 'postgres', $run->{id})->{requests};
	my $said   = sql_json("SELECT itsm_explain($run->{id}, 'json')")->{calls};
	like(sql("SELECT itsm_explain($run->{id})"), qr/calls=\Q$said\E\b/, "$name: the lines say the same as the document");
	$sim->reset_counters;
	sql("SELECT itsm_apply($run->{id})");
	my $row   = wait_for_run($node, 'postgres', $run->{id}, states => [qw(done failed cancelled)]);
	my $stats = $sim->stats;
	my $there = $stats->{requests} - $stats->{auth};
	my $here  = $row->{requests} - $before;
	is($row->{status}, 'done', "$name: the run ends");
	is($here, $there, "$name: as many calls were counted here as there");
	cmp_ok(abs($said - $there), '<=', 0.05 * $there, "$name: $said calls were announced, $there were made");
	is(sql_json("SELECT itsm_explain($run->{id}, 'json')")->{actual_calls}, $there, "$name: and itsm_explain() says so afterwards");
	is(sql("SELECT $short || ': ' || coalesce(i.reason, '') FROM integration_run_items i WHERE i.run_id = $run->{id} AND i.state = 'dead' AND i.action <> 'ERROR'"),
		'', "$name: nothing was refused by the platform");
	return $row;
}

my ($first, $second) = expectation();
my %stage  = map { $_->{name} => $_->{sys_id} } @{ $sim->dump('life_cycle_stage')->{life_cycle_stage} };
my %status = map { $_->{name} => $_->{sys_id} } @{ $sim->dump('life_cycle_stage_status')->{life_cycle_stage_status} };
my @in_use = (life_cycle_stage => [ '', $stage{Operational} ], life_cycle_stage_status => [ '', $status{'In Use'} ]);

# ---------------------------------------------------------------------------
# If what is there under the very same name were taken over
# ---------------------------------------------------------------------------

my $before = everything();
sql("SELECT itsm_set('$conn', 'on_existing', 'adopt')");
my $run   = preview();
my $items = items($run->{id});
is_deeply([ sort grep { $items->{$_}[0] eq 'MATCH' } keys %$items ], [qw(it_service/1 it_service/5 software_product/6)],
	'adopt: services and products would be matched');
is_deeply([ sort grep { $items->{$_}[0] eq 'UPDATE' } keys %$items ], [ sort map { "application/$_" } 1, 4, 5, 6, 8, 10, 11, 14, 19, 22 ],
	'adopt: applications would be updated');
is_deeply([ sort grep { $items->{$_}[0] eq 'MISMATCH' } keys %$items ],
	[ sort((map { "application/$_" } 2, 3, 17, 27, 30, 31), (map { "it_service/$_" } 3, 4, 6, 7, 8), (map { "deployment_profile/$_" } 2501, 2502),
			'contract/1/ORA-2026-77') ],
	'adopt: what is not sure is held all the same');
sql("SELECT itsm_cancel($run->{id})");
sql("SELECT itsm_set('$conn', 'on_existing', NULL)");

# ---------------------------------------------------------------------------
# A first look: everything that has a namesake there is held
# ---------------------------------------------------------------------------

$sim->reset_counters;
$run = preview();
my $stats  = $sim->stats;
is($stats->{writes}, 0, 'a preview writes nothing there');
is($stats->{batch_subrequests}{writes}, 0, 'nor inside a batch');
is(scalar(@{ $sim->get("/__sim/requests?n=100000&method=$_")->{requests} }), 0, "no $_ at all") for qw(PUT PATCH DELETE);
ok($stats->{by_endpoint}{'POST identifyreconcile/queryEnhanced'} || scalar(grep { /queryEnhanced/i } keys %{ $stats->{by_endpoint} }),
	'the engine was asked what it would do');
is_deeply(everything(), $before, 'every table there is as it was');
rows_are($run->{id}, $first, 'every record and relationship is as expected');
counts_are($run, { to_create => 149, to_update => 0, to_delete => 0, held => 27, skipped => 115, refused => 6, unchanged => 0, in_scope => 121 },
	'so are the counts of the run');
is(sql("SELECT count(*) FROM integration_sync_map"), '0', 'nothing is in the map');
is(sql("SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND action = 'UNCHANGED'"), '0', 'what is unchanged is not stored');

my $new = fields($run->{id}, 'application', 9);
is_deeply([ @{$new}{qw(name comments it_application_owner)} ],
	[ [ '', 'C:\Archive\new\table' ], [ '', 'ends in a backslash \\' ], [ '', 'eeee0000000000000000000000000002' ] ],
	'what is new has no old values');
is(sql("SELECT count(*) FROM itsm_plan($run->{id}) WHERE action = 'CREATE' AND coalesce(old_value, '') <> ''"), '0', 'none at all');
is(sql("SELECT count(*) FROM itsm_plan($run->{id}) WHERE action IN ('SKIP', 'MISMATCH', 'ERROR') AND coalesce(reason, '') = ''"), '0',
	'what is put aside has a reason');

# ---------------------------------------------------------------------------
# Decisions
# ---------------------------------------------------------------------------

is(sql(q{SELECT string_agg(concat_ws(' = ', m.entity_name, m.external_name), E'\n' ORDER BY m.entity_type, m.entity_id)
		   FROM integration_matches m WHERE m.decision = 'proposed' AND m.reason LIKE 'similar%'}),
	"Citizen 360 = Citizen 360 CRM\nHR Core = HR-Core HCM\nEmergency Alerts = Emergency Alerting\n"
	  . "Cybersecurity Operations = Cyber Security Operations\nHelp Desk Services = Helpdesk Services",
	'slightly other names are proposed, and no others');
is(sql("SELECT count(*) FROM integration_matches WHERE decision = 'proposed'"), '21', 'proposals: one a namesake, and a second one where there are two');
is(sql("SELECT count(*) FROM integration_matches m WHERE m.decision = 'proposed' AND m.score NOT BETWEEN 0.3 AND 1"), '0', 'each has a score');

# applications 1, 4, 5, 6, 8, 10, 11, 14, 19, 22; services 1, 5; product 6
is(sql('SELECT itsm_accept_matches(min_score => 0.9)'), '13', 'exact names are accepted at once, but for the two of one name and the one of somebody else');
sub match { return sql("SELECT id FROM integration_matches WHERE external_id = '$_[0]' AND decision = 'proposed'") }
sql('SELECT itsm_accept_match(' . match($_) . ')')
  for qw(aaaa0000000000000000000000000017 aaaa0000000000000000000000000031 aaaa0000000000000000000000001030
	55550000000000000000000000000004 55550000000000000000000000000006);
sql('SELECT itsm_reject_match(' . match('aaaa0000000000000000000000000027') . ', create_new => true)');
is(sql(q{SELECT string_agg(DISTINCT sync_direction, ',') || ' ' || count(*) FROM integration_sync_map}), 'subscribed 18', 'accepted pairs are in the map');
is(sql("SELECT count(*) FROM integration_matches WHERE decision = 'proposed'"), '1', 'the one of somebody else is left');
is_deeply(everything(), $before, 'decisions are not told to the platform');

# ---------------------------------------------------------------------------
# A second look
# ---------------------------------------------------------------------------

$sim->reset_counters;
$run = preview();
is($sim->stats->{writes}, 0, 'the second preview writes nothing there');
rows_are($run->{id}, $second, 'accepted applications are updates, services and products are left as they are, their relationships are made');
counts_are($run, { to_create => 207, to_update => 13, to_delete => 0, held => 8, skipped => 58, refused => 6, unchanged => 5, in_scope => 121 },
	'so say the counts');

is_deeply(fields($run->{id}, 'application', 1), {
		@in_use,
		short_description    => [ 'Ledger, as entered in 2018', 'Finance and procurement' ],
		owned_by             => [ '', 'eeee0000000000000000000000000001' ],
		managed_by           => [ 'eeee0000000000000000000000000006', 'eeee0000000000000000000000000002' ],
		it_application_owner => [ 'eeee0000000000000000000000000003', 'eeee0000000000000000000000000002' ],
		managed_by_group     => [ '', '66660000000000000000000000000002' ],
		business_criticality => [ '3 - less critical', '1 - most critical' ],
		vendor               => [ '', 'c0c00000000000000000000000000004' ],
		correlation_id       => [ '', app_id(1) ] },
	'application 1, field by field; the comments there are kept');
is_deeply(fields($run->{id}, 'application', 5), {
		@in_use,
		it_application_owner => [ 'eeee0000000000000000000000000012', '6816f79cc0a8016401c5a33be04be441' ],
		correlation_id       => [ '', app_id(5) ] },
	'application 5: the default owner');
is_deeply(fields($run->{id}, 'application', 6), {
		@in_use,
		name                 => [ 'FLEET MANAGER', 'Fleet Manager' ],
		operational_status   => [ '2', '1' ],
		short_description    => [ '', 'Vehicles and fuel' ],
		owned_by             => [ '', 'eeee0000000000000000000000000001' ],
		it_application_owner => [ 'eeee0000000000000000000000000003', 'eeee0000000000000000000000000001' ],
		business_criticality => [ '', '1 - most critical' ],
		correlation_id       => [ '', app_id(6) ] },
	'application 6: its name as it is written here');
my $planned = fields($run->{id}, 'application', 17);
is_deeply([ @{$planned}{qw(name operational_status install_status life_cycle_stage)} ],
	[ [ 'Citizen 360 CRM', 'Citizen 360' ], [ '1', '7' ], undef, [ '', $stage{Ideation} ] ], 'application 17: in the pipeline');
is(fields($run->{id}, 'application', 8)->{comments}, undef, 'comments that are filled there are not overwritten');
is_deeply(fields($run->{id}, 'application', 19)->{comments}, [ '', 'Reads meters, sends invoices.' ], 'those that are empty there are filled');

# ---------------------------------------------------------------------------
# Applied
# ---------------------------------------------------------------------------

my $twice = twice();
is($twice->{'cmdb_ci_business_app/library catalogue'}, 2, 'one name is there twice from the start');
my $done = apply_as_announced($run, 'the first publish');
is(sql("SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state = 'refused'"), '0', 'nothing moved, nothing is refused');
is($done->{done}, 220, 'everything was sent');
is_deeply(twice(), $twice, 'no name is there twice that was not before');
my $doubled = $sim->stats->{duplicates};
is_deeply({ map { $_ => $doubled->{$_}{count} } keys %$doubled }, { correlation_id => 0, native_key => 0, relations => 0, merged => 0 },
	'nor any key or relationship');

my %apps = map { $_->{sys_id} => $_ } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
is(scalar(keys %apps), scalar(@{ $before->{cmdb_ci_business_app} }) + 13, 'as many applications more as were to be created');
my %accepted = ((map { $_ => $_ } 1, 4, 5, 6, 8, 10, 11, 14, 17, 19, 22, 31), 30 => 1030);
is_deeply({ map { $_ => $apps{ sprintf 'aaaa%028d', $accepted{$_} }{correlation_id} } keys %accepted }, { map { $_ => app_id($_) } keys %accepted },
	'accepted applications are the records that were there');
is($apps{aaaa0000000000000000000000000006}{name}, 'Fleet Manager', 'with the name from here');
is($apps{aaaa0000000000000000000000000001}{comments}, 'Ask Finance before you change this', 'and the comments from there');
is(scalar(grep { ($_->{correlation_id} // '') eq app_id(27) && $_->{sys_id} ne 'aaaa0000000000000000000000000027' } values %apps), 1,
	'the rejected one is new');
for my $other (qw(aaaa0000000000000000000000000027 aaaa0000000000000000000000000030))
{
	is_deeply($apps{$other}, (grep { $_->{sys_id} eq $other } @{ $before->{cmdb_ci_business_app} })[0], "$other is nobody of ours and untouched");
}

# Referred to, a CI is stamped by the engine; nothing else of it may change.
for my $service (@{ $before->{service_offering} })
{
	my $now = row_there('service_offering', $service->{sys_id});
	my @kept = grep { !/^(sys_updated|sys_mod_count|last_discovered|first_discovered|discovery_source)/ } keys %$service;
	is_deeply({ map { $_ => $now->{$_} } @kept }, { map { $_ => $service->{$_} } @kept }, "service \"$service->{name}\" is as it was");
}
is_deeply(row_there('cmdb_software_product_model', 'bbbb0000000000000000000000000006'), $before->{cmdb_software_product_model}[0], 'so is the model');

my %type = map { $_->{sys_id} => $_->{name} } @{ $sim->dump('cmdb_rel_type')->{cmdb_rel_type} };
my %ends;
for my $r (@{ $sim->dump('cmdb_rel_ci')->{cmdb_rel_ci} })
{
	$ends{"$type{$r->{type}} $r->{child}"}++;
	$ends{"$r->{parent} $type{$r->{type}}"}++;
}
my $depends = 'Depends on::Used by';
is_deeply({ map { $_ => $ends{ sprintf '%s 5555%028d', $depends, $_ } // 0 } 1, 3 .. 6 }, { 1 => 15, 3 => 0, 4 => 1, 5 => 15, 6 => 1 },
	'profiles depend on the services that were matched');
is_deeply({ map { $_ => $ends{ sprintf 'aaaa%028d Consumes::Consumed by', $_ } // 0 } 1, 4, 17, 27, 30, 1030, 31 },
	{ 1 => 2, 4 => 1, 17 => 1, 27 => 0, 30 => 0, 1030 => 2, 31 => 8 }, 'matched applications consume their profiles');

$sim->reset_counters;
my $logged = sql('SELECT count(*) FROM integration_sync_log');
my $again = publish_and_wait($node, 'postgres', $city);
is($again->{status}, 'done', 'published again');
is($sim->stats->{writes}, 0, 'the second publish writes nothing');
is(sql('SELECT count(*) FROM integration_sync_log'), $logged, 'and logs nothing');

# ---------------------------------------------------------------------------
# What moves between plan and apply
# ---------------------------------------------------------------------------

my %there = map { $_->{correlation_id} => $_->{sys_id} } values %apps;
edit_there(PATCH => "cmdb_ci_business_app/$there{ app_id(13) }", { short_description => 'said by the clerk' });
sql("UPDATE applications SET short_description = v.short FROM (VALUES (9, 'changed once'), (12, 'Zoning maps'), (13, 'said here'),
		(20, 'Builds and deploys'), (26, 'Mail for all')) AS v(n, short)
	  WHERE id = ('aaaaaaaa-0001-4000-8000-' || lpad(v.n::text, 12, '0'))::uuid");
sql("INSERT INTO applications (id, app_id, workspace_id, name, short_description)
	 SELECT ('aaaaaaaa-0001-4000-8000-' || lpad(v.n::text, 12, '0'))::uuid, v.n, 'f0f0f0f0-0001-4000-8000-000000000001', v.name, 'new'
	   FROM (VALUES (33, 'Snow Plough Map'), (34, 'Bike Counter'), (35, 'Ferry Timetable ')) AS v(n, name)");

$sim->reset_counters;
$run = preview();
is($sim->stats->{writes}, 0, 'the third preview writes nothing there');
$items = items($run->{id});
is_deeply({ map { $_ => $items->{$_}[0] } grep { $items->{$_}[0] =~ /^(CREATE|UPDATE|DELETE|MATCH)$/ } keys %$items },
	{ 'application/9' => 'UPDATE', 'application/12' => 'UPDATE', 'application/20' => 'UPDATE', 'application/26' => 'UPDATE',
		'application/33' => 'CREATE', 'application/34' => 'CREATE', 'application/35' => 'CREATE' },
	'what changed is planned, and nothing else');
is($items->{'application/13'}[0], 'MISMATCH', 'what would overwrite somebody\'s edit there is held');
like($items->{'application/13'}[1], qr/^edited there .*short_description/, 'and says which field');
is_deeply(fields($run->{id}, 'application', 12), { short_description => [ '', 'Zoning maps' ] }, 'an update names what it changes');
is_deeply(fields($run->{id}, 'application', 9), { short_description => [ 'Backslashes \n that are no newline', 'changed once' ] }, 'with the value there');

# here; there, in the planned field; there, in another one, and to what is planned anyway; under the names of new ones, but for case and a blank
sql("UPDATE applications SET short_description = 'changed twice' WHERE id = '" . app_id(9) . "'");
edit_there(PATCH => "cmdb_ci_business_app/$there{ app_id(12) }", { short_description => 'Bylaws of 2026' });
edit_there(PATCH => "cmdb_ci_business_app/$there{ app_id(20) }", { asset_tag => 'A-20' });
edit_there(PATCH => "cmdb_ci_business_app/$there{ app_id(26) }", { short_description => 'Mail for all' });
my @newcomers = map { edit_there(POST => 'cmdb_ci_business_app', { name => $_, it_application_owner => 'eeee0000000000000000000000000003' }) }
  ('SNOW PLOUGH MAP', 'Ferry Timetable');

$twice = twice();
apply_as_announced($run, 'the third publish');
$items = items($run->{id});
is_deeply([ sort grep { $items->{$_}[2] eq 'refused' } keys %$items ], [qw(application/12 application/33 application/35 application/9)],
	'exactly what moved is refused');
like($items->{'application/9'}[1], qr/^changed here since the plan\b.*\bshort_description$/, 'here, with the field');
like($items->{'application/12'}[1], qr/^changed there since the plan\b.*\bshort_description\b/, 'there, with the field');
unlike($items->{'application/12'}[1], qr/\b(name|comments|correlation_id|owned_by|managed_by)\b/, 'and no other');
like($items->{"application/$_"}[1], qr/^there by now\b/, "application $_: a name that is taken by now") for 33, 35;
like($items->{"application/$_"}[2], qr/^(done|unchanged)$/, "application $_ went out") for 20, 26, 34;
is_deeply(twice(), $twice, 'no name is there twice that was not before');
is(row_there('cmdb_ci_business_app', $there{ app_id(12) })->{short_description}, 'Bylaws of 2026', 'what somebody wrote there stays');
isnt(row_there('cmdb_ci_business_app', $there{ app_id(9) })->{short_description}, 'changed twice', 'what was not shown is not sent');
is(row_there('cmdb_ci_business_app', $there{ app_id(20) })->{short_description}, 'Builds and deploys', 'what was shown is');
is(row_there('cmdb_ci_business_app', $_->{sys_id})->{correlation_id} // '', '', "$_->{name} there is not ours") for @newcomers;
is(scalar(grep { ($_->{correlation_id} // '') eq app_id(34) } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }), 1, 'the other new one is there');

# ---------------------------------------------------------------------------
# What is known and gone there is not made again, and nothing is made that would point at it
# ---------------------------------------------------------------------------

$sim->post('/__sim/delete', { cmdb_ci_business_app => [ $there{ app_id(28) } ] });
sql("UPDATE applications SET short_description = 'Records of the police' WHERE id = '" . app_id(28) . "'");
sql("INSERT INTO deployment_profiles (id, application_id, workspace_id, name, dp_type, environment, sn_sync_scope)
	 VALUES ('dddddddd-0001-4000-8000-000000002802', '" . app_id(28) . "', 'f0f0f0f0-0001-4000-8000-000000000003', 'Police Records - Test',
			 'application', 'TEST', 'application_service')");
$run   = preview();
$items = items($run->{id});
is_deeply([ @{ $items->{'application/28'} // [] }[ 0, 1 ] ], [ 'MISMATCH', 'deleted there' ], 'what is gone there is held');
is_deeply([ ($items->{'deployment_profile/2802'} // [])->[0], ($items->{'consumes/28/2802'} // [])->[0] ], [ 'CREATE', 'SKIP' ],
	'a profile of it is made, a relationship to it is not');
like($items->{'consumes/28/2802'}[1] // '', qr/^its application "Police Records" is not published: deleted there/, 'and says why');

$sim->stop;
$node->stop;
done_testing();
