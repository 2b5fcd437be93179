/*
 * nightmail: one program, one command line. Maps the subcommand's name to its function; everything else is in admin/.
 */
#include <stdio.h>

int main(void)
{
    puts("nightmail " NIGHTMAIL_VERSION);
    return 0;
}
