# The connection test and the registration of the data source: every way to sign in, the failures of a first
# hour with the hint that repairs each, answers that nobody should send, and an instance that does not answer.

use strict;
use warnings;
use PgsyncItsm;
use HTTP::Tiny;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $namespace = '11111111-1111-4111-8111-111111111111';
my $node = new_cluster(databases => '');
my $sim = start_simulator(
	options => [
		'--user', 'tap.reader:tap-reader-password:cmdb_read',
		'--user', 'tap.owner:tap-owner-password:admin',
		'--client', 'tap-owner-client:tap-owner-secret:tap.owner',
		'--api-key', 'tap-api-key-1:' . USER_NAME
	]);
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');

sub no_faults { return HTTP::Tiny->new->delete($sim->url . '/__sim/faults') }

# A stored connection; arguments of itsm_connect_servicenow() as literals.
my $count = 0;

sub connection
{
	my (%args) = @_;
	$args{name} //= 'c' . ++$count;
	$args{instance_url} //= $sim->url;
	my $list = join(', ', map { "$_ => " . sql_literal($args{$_}) } sort keys %args);
	return $node->safe_psql('postgres', "SELECT itsm_connect_servicenow('$namespace', $list)");
}

sub as_client { return connection(client_id => CLIENT_ID, client_secret => CLIENT_SECRET, @_) }

# check => [ok, detail, hint]
sub test_connection
{
	my ($id) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SELECT * FROM itsm_test_connection('$id')", extra_params => [ '-F', "\x1f" ]);
	is($status, 0, "test of a connection ends without error") or diag($err);
	return map { my ($check, @rest) = split /\x1f/, $_, -1; ($check => \@rest) } split /\n/, $out;
}

sub stops_at
{
	my ($rows, $check, $detail, $hint, $what) = @_;
	is($rows->{$check}[0], 'f', "$what: $check fails") or diag(explain($rows));
	like($rows->{$check}[1] // '', $detail, "$what: says what");
	like($rows->{$check}[2] // '', $hint, "$what: says what repairs it");
	return;
}

# ---- before and after the data source is registered

my $id = as_client();
my %rows = test_connection($id);
is($rows{$_}[0], 't', "$_ is good")
  for ('address', 'connect', 'token', 'instance', 'user', 'read cmdb_ci_business_app', 'read ast_contract',
	'class definitions', 'write contracts', 'dry run', 'limits');
is($rows{instance}[1], 'dev00001', 'the instance is named, by a user who may not read its properties');
is($rows{'native keys'}[0], '', 'what cannot be known is null');
stops_at(\%rows, 'data source', qr/"GetInSync" is not/, qr/itsm_prepare_instance/, 'unregistered source');
is($node->safe_psql('postgres', "SELECT instance_name FROM integration_connections WHERE id = '$id'"),
	'dev00001', 'the first test remembers the instance');
my $before = $sim->stats;
like($node->safe_psql('postgres', "SELECT itsm_prepare_instance('$id')"), qr/GetInSync is registered now/, 'registered');
like($node->safe_psql('postgres', "SELECT itsm_prepare_instance('$id')"), qr/registered already/, 'once');
%rows = test_connection($id);
is($rows{'data source'}[0], 't', 'data source is good');
like($rows{'write CIs'}[1], qr/dry run accepts cmdb_ci_business_app/, 'write right by dry run');
is($sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} ? scalar @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} } : 0,
	0, 'nothing was written to test');

my $other = as_client(settings => '{"source_name": "Other \" Source"}', name => 'other source');
like($node->safe_psql('postgres', "SELECT itsm_prepare_instance('$other')"), qr/Other " Source is registered now/, 'any name of a source');

# another instance behind the address
$node->safe_psql('postgres', "UPDATE integration_connections SET instance_name = 'acme' WHERE id = '$id'");
%rows = test_connection($id);
stops_at(\%rows, 'instance', qr/dev00001; .*another instance/, qr/itsm_adopt/, 'another instance');

# ---- every way to sign in

%rows = test_connection(connection(username => USER_NAME, password => USER_PASSWORD));
is($rows{'dry run'}[0], 't', 'basic');
like($rows{user}[1], qr/^tap\.integration/, 'as that user');
%rows = test_connection(as_client(username => USER_NAME, password => USER_PASSWORD));
is($rows{'dry run'}[0], 't', 'password grant');
like($rows{token}[1], qr/password/, 'named');
%rows = test_connection(connection(api_key => 'tap-api-key-1'));
is($rows{user}[0], 't', 'API key');
%rows = test_connection(connection(client_id => 'tap-owner-client', client_secret => secret_file('tap-owner-secret')));
is($rows{'native keys'}[0], 't', 'a user who reads properties knows about native keys');

# ---- the first hour

%rows = test_connection(as_client(client_secret => 'wrong'));
stops_at(\%rows, 'token', qr/HTTP 401.*client id or client secret wrong.*client_credentials is off/, qr/grant_type\.enabled/, 'wrong secret');
%rows = test_connection(connection(username => USER_NAME, password => 'wrong'));
stops_at(\%rows, 'login', qr/HTTP 401/, qr/basic authentication is restricted/, 'wrong password');
%rows = test_connection(connection(api_key => 'wrong'));
stops_at(\%rows, 'login', qr/HTTP 401/, qr/REST API access policy/, 'wrong key');
%rows = test_connection(connection(username => 'tap.reader', password => 'tap-reader-password'));
stops_at(\%rows, 'dry run', qr/HTTP 403/, qr/itil.*cmdb_read/, 'cmdb_read');
stops_at(\%rows, 'read ast_contract', qr/HTTP 403/, qr/contract_manager/, 'no contracts');
%rows = test_connection(as_client(settings => '{"product_model_table": "alm_product_model"}'));
stops_at(\%rows, 'read alm_product_model', qr/HTTP 400/, qr/does not exist there/, 'a table that is not there');
%rows = test_connection(connection(instance_url => 'http://127.0.0.1:1', username => 'a', password => 'b'));
stops_at(\%rows, 'connect', qr/127\.0\.0\.1/, qr/firewall/, 'nobody listens');

my ($status, $out, $err) = $node->psql('postgres', "SELECT itsm_prepare_instance('"
	  . connection(username => 'tap.reader', password => 'tap-reader-password') . "')");
isnt($status, 0, 'no right to the dry run: an error');
like($err, qr/could not be registered.*HTTP 403.*itil/s, 'with the reason and the role');
my $new_source = as_client(settings => '{"source_name": "Unknown Here"}', name => 'no right');
$sim->post('/__sim/faults', { endpoint => 'sys_choice', method => 'POST', fault => 'status', status => 403, count => 9 });
($status, $out, $err) = $node->psql('postgres', "SELECT itsm_prepare_instance('$new_source')");
no_faults();
isnt($status, 0, 'no right to register: an error') or diag($out);
like($err, qr/administrator.*cmdb_ci.*discovery_source.*Unknown Here/s, 'with exactly what to create');

($status, $out, $err) = $node->psql('postgres', "SELECT * FROM itsm_test_connection('99999999-9999-4999-8999-999999999999')");
like($err, qr/connection 99999999-.* does not exist/, 'an unknown connection');
($status, $out, $err) = $node->psql('postgres', "BEGIN; SELECT count(*) FROM itsm_test_connection('$id'); COMMIT");
like($err, qr/WARNING.*waits for the network/, 'inside a transaction block: a warning');

# ---- what nobody should send

my $basic = connection(username => USER_NAME, password => USER_PASSWORD);
for my $case (
	[ html               => qr/web page/ ],
	[ garbage_body       => qr/HTTP 200: .*UTF-8/ ],
	[ truncated_body     => qr/127\.0\.0\.1: |cut short|JSON/ ],
	[ nul                => qr/HTTP 200: .*NUL/ ],
	[ bad_utf8           => qr/HTTP 200: .*UTF-8/ ],
	[ huge               => qr/max_response_size/ ],
	[ close_before_reply => qr/127\.0\.0\.1: / ])
{
	my ($fault, $detail) = @$case;
	$sim->post('/__sim/faults', { endpoint => 'table', fault => $fault, mode => 'raw', count => 9 });
	%rows = test_connection($basic);
	no_faults();
	my ($failed) = grep { exists $rows{$_} && $rows{$_}[0] eq 'f' } ('connect', 'login', 'read cmdb_ci_business_app');
	ok($failed, "$fault: a row fails") or diag(explain(\%rows));
	like($rows{ $failed // 'login' }[1] // '', $detail, "$fault: says what");
}

# ---- an instance that does not answer can be left at any time

$sim->post('/__sim/faults', { endpoint => '*', fault => 'hang', count => 9 });
my $start = time;
($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '700ms'; SELECT * FROM itsm_test_connection('$id')");
like($err, qr/statement timeout/, 'hanging: cancelled');
cmp_ok(time - $start, '<', 5, 'at once');
no_faults();

my $log = slurp_file($node->logfile);
for my $secret (CLIENT_SECRET, USER_PASSWORD, 'tap-owner-secret')
{
	# literals of statements that fail are PostgreSQL's to log; none of those that gave a secret failed
	unlike($log, qr/\Q$secret\E/, 'no secret in the log');
}
unlike($log, qr/PANIC|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
