/*
 * Makes a network namespace inside a user namespace, for containers with --userns-remap: a process with several threads
 * (the daemon) can neither make nor enter a user namespace. It says so by one byte on descriptor 3 and holds both
 * namespaces until the other end of that descriptor is closed; meanwhile the daemon writes the ID maps and binds them.
 *
 *   holder          a new user namespace
 *   holder PATH     the user namespace at PATH
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#define CONTROL_FD 3

int main(int argc, char **argv)
{
	char byte = 1;
	fcntl(CONTROL_FD, F_SETFL, 0); /* the daemon makes both ends non-blocking */
	if (argc > 1) {
		int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWUSER) != 0 || unshare(CLONE_NEWNET) != 0) return 1;
	} else if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
		return 1;
	}
	if (write(CONTROL_FD, &byte, 1) != 1) return 1;
	while (read(CONTROL_FD, &byte, 1) > 0) {
	}
	return 0;
}
