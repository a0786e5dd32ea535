#include "executor/phase.h"

int
main(int argc, char **argv)
{
	return phase_main(&phase_cleanup, argc, argv);
}
