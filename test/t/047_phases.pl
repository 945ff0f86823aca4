# Breaks one phase of a request after the other (name, connection, TLS, first byte, the rest), and compares what the
# connection test says with the phase that was broken; each has a limit of its own.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use IO::Select;
use IO::Socket::INET;
use PgsyncItsm;
use POSIX ();
use Socket qw(SOCK_STREAM pack_sockaddr_in inet_aton);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_cluster(databases => '', conf => "pgsync_itsm.allowed_hosts = '127.0.0.1, no-such-host.invalid'\n"
	  . "pgsync_itsm.allow_insecure_hosts = '127.0.0.1'\n");
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');

# What the fake platforms of this test do with a connection, each in a process of its own.
my @children;

sub serve
{
	my ($behaviour, $queue) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => $queue // 16) or die "listen: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$behaviour->($listener);
		POSIX::_exit(0);
	}
	push @children, $pid;
	my $port = $listener->sockport;
	close $listener;
	return $port;
}

END
{
	my $status = $?;
	kill 'KILL', @children if @children;
	waitpid($_, 0) for @children;
	$? = $status;
}

sub accept_and_stay
{
	my ($listener) = @_;
	my @all;
	while (my $client = $listener->accept) { push @all, $client }
}

# Headers at once, then a byte now and then, for ever.
sub drip
{
	my ($listener) = @_;
	while (my $client = $listener->accept)
	{
		sysread($client, my $request, 65536);
		syswrite($client, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{");
		for (1 .. 600)
		{
			last unless syswrite($client, ' ');
			select(undef, undef, undef, 0.05);
		}
	}
}

# The detail of the first check that failed, and the seconds that the test took.
my $count = 0;

sub first_failure
{
	my ($url, %limits) = @_;
	$node->append_conf('postgresql.conf', "pgsync_itsm.$_ = '$limits{$_}'\n") for sort keys %limits;
	$node->reload;
	my ($name, $value) = %limits;
	ok(poll_query($node, 'postgres', "SELECT current_setting('pgsync_itsm.$name')", $value), "$name is $value");
	my $id = $node->safe_psql('postgres', "SELECT itsm_connect_servicenow(gen_random_uuid(), '$url', username => 'u', password => 'p')");
	my $begin = time();
	my $detail = $node->safe_psql('postgres', "SELECT detail FROM itsm_test_connection('$id') WHERE NOT ok LIMIT 1");
	$node->safe_psql('postgres', "ALTER SYSTEM RESET pgsync_itsm.$_") for keys %limits;
	$node->append_conf('postgresql.conf', "pgsync_itsm.$_ = '" . { resolve_timeout => '5s', connect_timeout => '10s', tls_timeout => '10s',
			first_byte_timeout => '0', request_timeout => '90s' }->{$_} . "'\n") for keys %limits;
	return ($detail, time() - $begin);
}

my ($detail, $seconds);

# a queue of connections that is full and that nobody takes one from: the next one is not let in
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 0) or die "listen: $!";
my @crowd;
for (1 .. 8)
{
	my $one = IO::Socket::INET->new(Proto => 'tcp', Type => SOCK_STREAM, Blocking => 0);
	$one->connect(pack_sockaddr_in($full->sockport, inet_aton('127.0.0.1')));
	push @crowd, $one;
}
($detail, $seconds) = first_failure('http://127.0.0.1:' . $full->sockport, connect_timeout => '500ms');
like($detail, qr/timed out after \S+ s while connecting \(127\.0\.0\.1\)/, 'connecting');
cmp_ok($seconds, '<', 8, 'ends by its own limit');

($detail, $seconds) = first_failure('https://127.0.0.1:' . serve(\&accept_and_stay), tls_timeout => '500ms');
like($detail, qr/timed out after \S+ s while agreeing on TLS/, 'agreeing on TLS');
cmp_ok($seconds, '<', 8, 'ends by its own limit');

($detail, $seconds) = first_failure('http://127.0.0.1:' . serve(\&accept_and_stay), first_byte_timeout => '500ms');
like($detail, qr/timed out after \S+ s while waiting for the first byte of the answer/, 'waiting for the first byte');
cmp_ok($seconds, '<', 8, 'ends by its own limit');

($detail, $seconds) = first_failure('http://127.0.0.1:' . serve(\&drip), request_timeout => '1s');
like($detail, qr/timed out after \S+ s while reading the answer/, 'reading the answer');
cmp_ok($seconds, '<', 25, 'ends by the limit of the whole request');

($detail, $seconds) = first_failure('https://no-such-host.invalid', resolve_timeout => '2s');
like($detail, qr/no-such-host\.invalid/, 'a name that nobody knows');

$node->stop;
done_testing();
