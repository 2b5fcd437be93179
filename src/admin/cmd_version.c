/*
 * nightmail version: what is running here, for reports of faults.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

int cmd_version(int argc, char **argv)
{
    bool help = argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);

    if (argc > 1 && !help)
        return cli_usage_error("version");
    puts(help ? "usage: nightmail version" : "nightmail " NIGHTMAIL_VERSION);
    return EX_OK;
}
