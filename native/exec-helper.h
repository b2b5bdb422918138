/*
 * Part of shim.c, included there once: the program that starts execs without the OCI runtime (exec.c), as a sealed copy in
 * memory. While it works in the container, /proc/PID/exe leads there and not to a file of the host (CVE-2019-5736).
 */
#ifndef LONGSHORE_EXEC_HELPER_H
#define LONGSHORE_EXEC_HELPER_H

#include <sys/mman.h>
#include <sys/sendfile.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10 /* since Linux 6.3 */
#endif
#define EXEC_UNSUPPORTED 75 /* its exit status where the runtime has to do it; then nothing has happened yet */
#define HIGH_FD 10          /* above everything that a child of ours is given by number */

/* -1: there is none, or this host does not run programs out of memory. Made for each exec, so that it costs nothing later. */
static int exec_helper_open(void)
{
	if (!config.exec_helper) return -1;
	int file = open(config.exec_helper, O_RDONLY | O_CLOEXEC);
	if (file < 0) return -1;
	int copy = (int)syscall(SYS_memfd_create, "longshore-exec", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (copy < 0) copy = (int)syscall(SYS_memfd_create, "longshore-exec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;
	off_t left = fstat(file, &st) == 0 ? st.st_size : -1;
	while (copy >= 0 && left > 0) {
		ssize_t n = sendfile(copy, file, NULL, (size_t)left);
		if (n <= 0) break;
		left -= n;
	}
	close(file);
	if (copy >= 0 && left == 0 &&
	    fcntl(copy, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0) {
		int high = fcntl(copy, F_DUPFD_CLOEXEC, HIGH_FD);
		close(copy);
		return high;
	}
	if (copy >= 0) close(copy);
	return -1;
}

/* Of the first process, which cannot have been reaped: whatever its number is used for later, this is that process. */
static int init_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, init.pid, 0);
	if (fd < 0) return -1;
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
	close(fd);
	return high;
}

#endif
