# Breaks: nothing; the lists of steps on which random work (083) and the model once disagreed, made as short as they go.
# Compares: every field of every record, here, there and in the model.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmTwoWay;
use Test::More;

# what was cleared there, and then left out of other updates, comes back as an echo
one_list('an echo of what was cleared', '
["policy","remote_wins"]
["here",1,{"version":"empty 1"}]
["publish"]
["wait"]
["here",1,{"environment":"DEV"}]
["publish"]
["wait"]
["here",1,{"version":"plain 2"}]
["rest"]

["authority","short_description","theirs"]
["here",0,{"short_description":"plain 3"}]
["publish"]
["wait"]
["there",0,{"short_description":"plain 4"}]
["here",0,{"comments":"plain 5"}]
["publish"]
["wait"]
["there",0,{"short_description":"Generated application 1"}]
["rest"]

["policy","last_write_wins"]
["there",3,{"version":"plain 6"}]
["wait"]
["here",3,{"environment":"TEST","version":"empty 7"}]
["publish"]
["wait"]
["rest"]

["policy","local_wins"]
["here",5,{"version":"empty 8"}]
["there",5,{"environment":"Test","version":"plain 9"}]
["subscribe"]
["wait"]
["rest"]

["policy","manual"]
["create",10]
["create",12]
["authority","comments","ours"]
["publish"]
["wait"]
["there",10,{"comments":"plain 10"}]
["rest"]
["authority","comments","theirs"]
["there",12,{"comments":"plain 11"}]
["rest"]');

# conflicts that are over without a decision, each by itself
one_list('conflicts that end', '
["here",0,{"short_description":"plain 1"}]
["there",0,{"short_description":"plain 2"}]
["here",2,{"short_description":"plain 1"}]
["there",2,{"short_description":"plain 2"}]
["here",4,{"short_description":"plain 1"}]
["there",4,{"short_description":"plain 2"}]
["here",6,{"short_description":"plain 1"}]
["there",6,{"short_description":"plain 2"}]
["rest"]
["here",0,{"short_description":"plain 2"}]
["there",2,{"short_description":"Generated application 2"}]
["here",4,{"short_description":"Generated application 3"}]
["rest"]
["policy","local_wins"]
["rest"]');

# an edit there to what was once sent twice is an edit
one_list('written twice, long ago', '
["twice"]
["here",1,{"environment":"TEST"}]
["publish"]
["wait"]
["calm"]
["here",1,{"environment":"DEV"}]
["publish"]
["wait"]
["there",1,{"environment":"Test"}]
["here",1,{"version":"plain 1"}]
["publish"]
["wait"]
["rest"]');

# a change there that could not be written yet, and is taken back
one_list('changed, and changed back', '
["policy","last_write_wins"]
["there",2,{"name":"plain 1"}]
["slow",2,{"name":"plain 1"}]
["wait"]
["there",2,{"name":"plain 2"}]
["there",2,{"name":"base 3"}]
["rest"]');

# what could not be written here is written later; what was decided is decided anew, or over when the change is taken back
one_list('writes here that fail', '
["refuse",0]
["there",0,{"short_description":"plain 1"}]
["refuse",1]
["there",1,{"version":"plain 2"}]
["here",2,{"short_description":"plain 3"}]
["there",2,{"short_description":"plain 4"}]
["here",4,{"short_description":"plain 3"}]
["there",4,{"short_description":"plain 4"}]
["subscribe"]
["wait"]
["here",0,{"name":"plain 5"}]
["there",1,{"version":"plain 6"}]
["resolve",0,"theirs","plain 7","refused"]
["resolve",1,"value","plain 8","refused"]
["wait"]
["both"]
["wait"]
["there",2,{"short_description":"base 9"}]
["rest"]');
done_testing();
