/*
 * The simulated network: to come.
 */
#include "run/sim_internal.h"

void sim_net_begin(const struct sim_options *options)
{
    (void)options;
}

void sim_net_end(void)
{
}
