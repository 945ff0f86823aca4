# The configuration package, read by the simulator's own reader of update sets: it registers the data source, leaves what
# the customer has alone, brings inactive rules, and a second import updates.  A publish goes through with nothing but the
# package; the check-list tells what the platform can tell.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $node = new_cluster();
my $sim  = start_simulator();
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, prepare => 0);

sub xml
{
	my ($args) = @_;
	return $node->safe_psql('postgres', "SELECT itsm_update_set('$conn'" . ($args ? ", $args" : '') . ')');
}

sub import_file
{
	my ($text, $name) = @_;
	my $answer = HTTP::Tiny->new(proxy => undef, http_proxy => undef)->post($sim->url . '/__sim/' . ($name // 'import_update_set'), { content => $text });
	return { error => $answer->{content} } unless $answer->{success};
	return JSON::PP::decode_json($answer->{content});
}

sub rows
{
	my ($table) = @_;
	return @{ $sim->dump($table)->{$table} };
}

sub checklist
{
	return map { split /\|/, $_, 2 } split /\n/, $node->safe_psql('postgres', "SELECT item, state FROM itsm_checklist('$conn')");
}

my %state = checklist();
is($state{'data source'}, '"GetInSync" is not registered', 'the check-list knows what is missing');
is($state{'asset creation'}, 'no model categories with an asset class that this user can see', 'no asset will be made');
like($state{'business rules'}, qr/^active business rules: 3 \(Asset-CI Synchronizer, Create Asset from CI, /, 'business rules are named');
is($state{'flows'}, 'look', 'what the platform does not tell is to be looked at');
is($state{'native keys'}, 'look', 'so is what the user may not read');
like($state{'mandatory columns'}, qr/it_application_owner/, 'mandatory columns are named');

my $before = $sim->dump('sys_choice');
my $file = xml();
unlike($file, qr/\Q$_\E/, 'no credential') for CLIENT_ID, CLIENT_SECRET, USER_NAME, USER_PASSWORD;
my $report = import_file($file);
is($report->{error}, undef, 'the package is accepted');
is_deeply($report->{inserted},
	{ sys_choice => 1, sys_choice_set => 1, cmdb_reconciliation_definition => 2, sys_rest_message => 1, sys_rest_message_fn => 1 },
	'these records are new');
is($report->{deleted}, 0, 'nothing was deleted');
is_deeply([ grep { $_->{value} ne 'GetInSync' } rows('sys_choice') ], $before->{sys_choice}, 'all other choices are as they were');
is_deeply([ map { $_->{active} } rows('cmdb_reconciliation_definition') ], [ 'false', 'false' ], 'rules are inactive');
is((rows('sys_rest_message'))[0]{rest_endpoint}, $sim->url, 'the REST message has the address of the instance');

my @choices = rows('sys_choice');
$report = import_file(xml());
is_deeply($report->{inserted}, {}, 'a second import inserts nothing');
is_deeply([ rows('sys_choice') ], \@choices, 'and leaves the choices as they are');

# everything at once, and the plain form
$report = import_file(xml("rules_active => true, with_legacy_precedence => true, with_identification_rules => true, "
	  . "getinsync_url => 'https://gateway.example.com/itsm'"));
is($report->{error}, undef, 'the package with everything in it is accepted as well');
is($report->{inserted}{cmdb_identifier}, 2, 'identification rules on request');
is($report->{updated}{cmdb_reconciliation_definition}, 2, 'the rules are the same records');
is((rows('sys_rest_message'))[0]{rest_endpoint}, 'https://gateway.example.com/itsm', 'notices go to the gateway');
is(import_file(xml("form => 'records'"), 'import_xml')->{updated}{sys_choice}, 1, 'plain records are the same ones');

$sim->post('/__sim/reset');
load_platform($sim);
$node->safe_psql('postgres', "SELECT itsm_set('$conn', 'source_name', U&'R&D <\"]]> \\00E9\\+01F600')");
$report = import_file(xml());
is($report->{error}, undef, 'a name that needs escaping');
is(scalar(grep { $_->{value} eq "R&D <\"]]> \x{e9}\x{1f600}" } rows('sys_choice')), 1, 'arrives as it is');
$node->safe_psql('postgres', "SELECT itsm_set('$conn', 'source_name', NULL)");

# nothing but the package is needed
is(import_file(xml())->{error}, undef, 'imported');
$sim->post('/__sim/clock', { advance => 10 });
my $run = publish_and_wait($node, 'postgres', $city);
ok($run->{done} > 20, 'the portfolio is published');
is($node->safe_psql('postgres', "SELECT label, error_class, reason FROM integration_run_items "
		  . "WHERE run_id = $run->{id} AND state = 'dead' AND action <> 'ERROR'"),
	'', 'nothing was refused there');
%state = checklist();
is($state{'data source'}, '"GetInSync" is registered', 'the check-list has nothing against it');

$sim->stop;
%state = split /[|\n]/, $node->safe_psql('postgres', "SET client_min_messages = error; SELECT item, state FROM itsm_checklist('$conn')");
is($state{'business rules'}, 'look', 'without an answer everything is to be looked at');
is($state{'data source'}, '"GetInSync" was accepted', 'but for what is known here');
$node->stop;
done_testing();
