# run-tap.pl: prove(1) that also says, in a file, how many tests passed and failed.

use strict;
use warnings;
use Getopt::Long;
use TAP::Harness;

my ($result, @include);
my $jobs = 1;
GetOptions('result=s' => \$result, 'jobs=i' => \$jobs, 'I=s' => \@include) or exit 2;

my $harness = TAP::Harness->new(
	{   lib       => \@include,
		jobs      => $jobs,
		verbosity => $ENV{VERBOSE} ? 1 : 0,
		failures  => 1,
		timer     => 1,
		merge     => 0 });
my $all = $harness->runtests(@ARGV);

my $passed = scalar $all->passed;
my $failed = scalar $all->failed;
# A file that died, or did not run what it planned, has failed as one more test.
$failed++ for grep { !$_->failed && $_->has_problems } $all->parsers;
$failed ||= 1 if !$all->all_passed;

if ($result)
{
	open(my $out, '>', $result) or die "$result: $!";
	print $out "$passed $failed\n";
	close $out;
}
exit($all->all_passed ? 0 : 1);
