/*
 * nightmail version: what is running here, for reports of faults.
 */
#include "admin/commands.h"
#include <stdio.h>
#include <sysexits.h>

int cmd_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("nightmail %s\n", NIGHTMAIL_VERSION);
    return EX_OK;
}
