/*
 * The session with the kernel: options, mounting, serving until unmounted or told to end by a signal.
 */
#include "fs/fuse_int.h"

#include "fs/ns_txn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/ns_side.h"

/*
 * SIGTERM and SIGINT unmount as umount(8) does, so that what the kernel still holds is written back
 * and served to the end. If somebody is busy in there, the mount point is freed and the session ended.
 */
struct signals {
	struct mount *m;
	pthread_t main_thread;
	atomic_bool done;
};

static int unmount(const char *mountpoint)
{
	pid_t pid;
	int status;

	if (geteuid() == 0)
		return umount2(mountpoint, 0) ? -errno : 0;
	pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-q", "--", mountpoint, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static sigset_t ending_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

void mount_block_signals(void)
{
	sigset_t set = ending_signals();

	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *signals_main(void *arg)
{
	struct signals *s = arg;
	sigset_t set = ending_signals();
	int sig;

	for (;;) {
		if (sigwait(&set, &sig) || atomic_load(&s->done))
			return NULL;
		if (unmount(s->m->config->mountpoint) == 0)
			continue; /* the session ends by itself, when the kernel is through */
		if (s->m->config->log)
			s->m->config->log(s->m->config->log_arg, LOG_WARNING,
					  "the mount is in use: leaving all the same, as asked");
		fuse_session_exit(s->m->session);
		pthread_kill(s->main_thread, SIGUSR2); /* wakes the loop */
	}
}

static void wake_up(int sig)
{
	(void)sig;
}

static int serve_loop(struct mount *m)
{
	struct fuse_loop_config *loop;
	int err;

	if (m->config->single_thread)
		return fuse_session_loop(m->session);
	loop = fuse_loop_cfg_create();
	if (!loop)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(loop, 0);
	err = fuse_session_loop_mt(m->session, loop);
	fuse_loop_cfg_destroy(loop);
	return err;
}

/* While the mount is served, the kernel and who has files open learn of what the store does by itself. */
void mount_committed(void *arg, mvcc_rev_t rev)
{
	struct mount_news *news = arg;

	pthread_mutex_lock(&news->lock);
	if (news->mount) {
		ns_side_removed(news->mount->ns);
		notify_changed(news->mount, rev);
	}
	pthread_mutex_unlock(&news->lock);
}

static void listen_to_news(struct mount *m, bool listen)
{
	pthread_mutex_lock(&m->config->news->lock);
	m->config->news->mount = listen ? m : NULL;
	pthread_mutex_unlock(&m->config->news->lock);
}

static int serve(struct mount *m)
{
	struct signals signals = { .m = m, .main_thread = pthread_self() };
	struct sigaction wake = { .sa_handler = wake_up };
	pthread_t thread;
	int err;

	sigaction(SIGUSR2, &wake, NULL);
	signal(SIGPIPE, SIG_IGN);
	err = notifier_start(m);
	if (!err)
		err = -pthread_create(&m->parker, NULL, parker_main, m);
	if (err) {
		notifier_stop(m);
		return err;
	}
	err = -pthread_create(&thread, NULL, signals_main, &signals);
	if (!err) {
		listen_to_news(m, true);
		err = serve_loop(m);
		listen_to_news(m, false);
		if (err > 0)
			err = 0; /* ended by a signal: as asked */
		atomic_store(&signals.done, true);
		pthread_kill(thread, SIGHUP);
		pthread_join(thread, NULL);
	}
	pthread_mutex_lock(&m->park_lock);
	m->stop = true;
	pthread_cond_signal(&m->park_wake);
	pthread_mutex_unlock(&m->park_lock);
	pthread_join(m->parker, NULL);
	waits_end(m);
	notifier_stop(m);
	return err;
}

static int session_new(struct mount *m)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char fsname[4200];
	int err = 0;

	snprintf(fsname, sizeof(fsname), "-ofsname=%s", m->config->db_path);
	if (fuse_opt_add_arg(&args, m->config->program) || fuse_opt_add_arg(&args, "-odefault_permissions") ||
	    fuse_opt_add_arg(&args, "-osubtype=mvccfs") || fuse_opt_add_arg(&args, fsname) ||
	    (m->config->debug && fuse_opt_add_arg(&args, "-d")) ||
	    (m->config->root_rev && fuse_opt_add_arg(&args, "-oro")) ||
	    (m->config->fuse_options[0] &&
	     (fuse_opt_add_arg(&args, "-o") || fuse_opt_add_arg(&args, m->config->fuse_options))))
		err = -ENOMEM;
	if (!err) {
		m->session = fuse_session_new(&args, &mount_ops, sizeof(mount_ops), m);
		err = m->session ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	return err;
}

int mount_serve(const struct mount_config *config)
{
	struct mount *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return -ENOMEM;
	m->config = config;
	m->db = config->db;
	m->ns = config->ns;
	m->owner = geteuid();
	m->started_ns = ns_time_ns();
	m->parked_end = &m->parked;
	pthread_mutex_init(&m->comm_lock, NULL);
	pthread_mutex_init(&m->park_lock, NULL);
	pthread_cond_init(&m->park_wake, NULL);
	pthread_cond_init(&m->waits_over, NULL);
	m->db_fd = open(config->db_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = m->db_fd < 0 ? -errno : 0;
	if (!err)
		err = node_table_init(&m->nodes, config->root_rev ? NODE_PAST_DIR : NODE_LIVE,
				      config->root_rev);
	if (err)
		goto out;
	err = work_init(m);
	if (!err)
		err = teller_start(m);
	if (!err && !config->root_rev)
		err = ns_txns_new(m->ns, &m->txns);
	if (!err)
		err = session_new(m);
	if (!err) {
		err = fuse_session_mount(m->session, config->mountpoint) ? -EIO : 0;
		if (!err) {
			err = serve(m);
			work_end(m);
			teller_stop(m);
			fuse_session_unmount(m->session);
		}
		fuse_session_destroy(m->session);
	}
	work_end(m);
	teller_stop(m);
	ns_txns_free(m->txns);
	node_table_release(&m->nodes);
out:
	if (m->db_fd >= 0)
		close(m->db_fd);
	pthread_mutex_destroy(&m->comm_lock);
	pthread_mutex_destroy(&m->park_lock);
	pthread_cond_destroy(&m->park_wake);
	pthread_cond_destroy(&m->waits_over);
	free(m);
	return err;
}
