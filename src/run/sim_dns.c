/*
 * The simulated resolver: to come.
 */
#include "run/sim_internal.h"

void sim_dns_begin(const struct sim_options *options)
{
    (void)options;
}

void sim_dns_end(void)
{
}
