"""Jobs that take too much, hang, hide or leave something behind: bodies of a training component, and how each has to end."""

import os
from typing import NamedTuple

MB, GB = 10**6, 10**9


class Bomb(NamedTuple):
    name: str
    body: str
    kinds: tuple[str, ...]  # of fault; "" where the job may end well
    limits: dict[str, float] = {}  # noqa: RUF012 - never changed


TIME = {"smoke_seconds": 2}
MEMORY = {"memory_bytes": 1500 * MB, "smoke_seconds": 30}
DISK = {"disk_bytes": 100 * MB, "smoke_seconds": 30}
EXIT = 60 if os.uname().machine == "x86_64" else 93  # the system call that ends a thread
_KEEP = "import time\ntime.sleep(60)"

BOMBS = [
    Bomb("infinite_loop", "while True:\n    pass", ("time",), TIME),
    Bomb("all_signals_ignored", "import signal, time\nfor s in range(1, 64):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\ntime.sleep(60)", ("time",), TIME),
    Bomb("stops_itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", ("time",), TIME),
    Bomb("stdout_closed_and_hanging", "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)", ("time",), TIME),
    Bomb("daemon_by_double_fork", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)", ("",)),
    Bomb("daemon_that_hides", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.closerange(0, 100)\n        os.chdir('/')\n        os.execve('/bin/sleep', ['[kworker]', '600'], {})\n    os._exit(0)", ("",)),
    Bomb("late_write", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    while True:\n        try:\n            open('weights.safetensors', 'wb').write(b'late')\n            open('validation.npy', 'wb').write(b'late')\n        except OSError:\n            pass", ("",)),
    Bomb("fork_bomb", "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", ("processes", "time", "memory"), {"processes": 60, "smoke_seconds": 6}),
    Bomb("thread_bomb", "import threading, time\nheld = []\nwhile len(held) < 30000:\n    held.append(threading.Thread(target=time.sleep, args=(60,), daemon=True))\n    held[-1].start()\nprint('ALL THREADS')", ("RuntimeError", "time", "memory", "died"), {"processes": 8, "smoke_seconds": 20}),
    Bomb("memory_in_steps", "held = []\nwhile True:\n    held.append(b'x' * 20_000_000)", ("memory", "died"), MEMORY),
    Bomb("memory_in_one_gulp", "held = b'x' * 6_000_000_000\n" + _KEEP, ("memory", "died"), MEMORY),
    Bomb("memory_in_many_processes", f"import os\nfor _ in range(12):\n    if os.fork() == 0:\n        held = b'x' * 200_000_000\n        {_KEEP.replace(chr(10), chr(10) + '        ')}\n" + _KEEP, ("memory",), MEMORY),
    Bomb("memory_without_a_name", "import os, time\nf = os.memfd_create('x')\nwhile True:\n    os.write(f, b'x' * 20_000_000)", ("memory", "died", "OSError"), MEMORY),
    Bomb("memory_in_dev_shm", "import time\nwhile True:\n    open('/dev/shm/improve-bomb', 'ab').write(b'x' * 20_000_000)", ("memory", "OSError", "disk"), MEMORY),
    Bomb("memory_in_tmp", "import os, time\nwhile True:\n    open(os.environ['TMPDIR'] + '/bomb', 'ab').write(b'x' * 20_000_000)", ("memory", "OSError", "disk"), MEMORY | DISK),
    Bomb("disk_one_file", "while True:\n    open('f', 'ab').write(b'x' * 5_000_000)", ("disk", "OSError", "died"), DISK),
    Bomb("disk_many_files", "import itertools\nfor i in itertools.count():\n    open(f'f{i}', 'wb').write(b'x' * 1_000_000)", ("disk",), DISK),
    Bomb("disk_deleted_files", "import os, itertools, time\nheld = []\nfor i in itertools.count():\n    held.append(open(f'f{i}', 'wb'))\n    held[-1].write(b'x' * 5_000_000)\n    held[-1].flush()\n    os.unlink(f'f{i}')\n    time.sleep(0.005)", ("disk",), DISK),
    Bomb("disk_deep_path", "import os, time\nfor i in range(300):\n    os.mkdir('d' * 50)\n    os.chdir('d' * 50)\nwhile True:\n    open('f', 'ab').write(b'x' * 5_000_000)", ("disk", "OSError", "died"), DISK),
    Bomb("disk_unreadable_directory", "import os, time\nos.mkdir('d')\nf = open('d/f', 'ab')\nos.chmod('d', 0)\nwhile True:\n    f.write(b'x' * 5_000_000)", ("disk", "OSError"), DISK),
    Bomb("many_files", "import itertools\nfor i in itertools.count():\n    open(f'f{i}', 'wb')", ("disk",), {"files": 5000, "smoke_seconds": 30}),
    Bomb("output", "while True:\n    print('x' * 10000)", ("output",), {"output_bytes": 20 * MB, "smoke_seconds": 30}),
    Bomb("one_endless_line", "import os\nwhile True:\n    os.write(1, b'x' * 100000)", ("output",), {"output_bytes": 20 * MB, "smoke_seconds": 30}),
    # -- what whoever counts could miss
    Bomb("daemon_named_like_a_line_of_status", "import ctypes, os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        ctypes.CDLL(None).prctl(15, b'\\nUid:\\t5\\t5\\t5', 0, 0, 0)\n        os.chdir('/')\n        time.sleep(600)\n    os._exit(0)", ("",)),
    Bomb("goes_on_without_its_first_thread", f"import ctypes, os, threading, time\nif os.fork() == 0:\n    os.setsid()\n    threading.Thread(target=time.sleep, args=(600,)).start()\n    ctypes.CDLL(None).syscall({EXIT}, 0)", ("",)),
    Bomb("hangs_without_its_first_thread", f"import ctypes, os, signal, threading, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nthreading.Thread(target=time.sleep, args=(600,)).start()\nctypes.CDLL(None).syscall({EXIT}, 0)", ("time",), TIME),
    Bomb("memory_without_its_first_thread", f"import ctypes, os, threading, time\ndef fill():\n    held = [b'x' * 20_000_000 for _ in range(150)]\n    time.sleep(60)\nif os.fork() == 0:\n    threading.Thread(target=fill).start()\n    ctypes.CDLL(None).syscall({EXIT}, 0)\ntime.sleep(60)", ("memory",), MEMORY | {"smoke_seconds": 15}),
    Bomb("memory_of_a_program_that_cannot_be_read", "import os, sys, time\nheld = os.open('program', os.O_WRONLY | os.O_CREAT, 0o100)\nos.write(held, open(os.path.realpath(sys.executable), 'rb').read())\nos.close(held)\nos.spawnv(os.P_WAIT, 'program', [sys.executable, '-S', '-c', 'import time; held = [b\"x\" * 20_000_000 for _ in range(150)]; time.sleep(60)'])", ("memory", "disk"), MEMORY | {"smoke_seconds": 15}),
    Bomb("memory_in_segments", "import ctypes, time\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.shmat.restype = ctypes.c_void_p\nfor _ in range(30):\n    segment = libc.shmget(0, 100_000_000, 0o1600)\n    if segment < 0:\n        raise OSError(ctypes.get_errno(), 'refused')\n    place = libc.shmat(segment, None, 0)\n    ctypes.memset(place, 1, 100_000_000)\n    libc.shmdt(ctypes.c_void_p(place))\ntime.sleep(60)", ("memory", "OSError", "PermissionError"), MEMORY | {"smoke_seconds": 15}),
    Bomb("memory_that_nobody_else_maps", "import ctypes, mmap, os, time\nlibc = ctypes.CDLL(None, use_errno=True)\nfor _ in range(30):\n    held = libc.syscall(447, 0)\n    if held < 0:\n        raise OSError(ctypes.get_errno(), 'refused')\n    os.ftruncate(held, 4_000_000)\n    with mmap.mmap(held, 4_000_000) as place:\n        place.write(b'x' * 4_000_000)\ntime.sleep(60)", ("memory", "OSError", "PermissionError"), MEMORY | {"smoke_seconds": 8}),
    Bomb("memory_in_a_directory_of_dev_shm", "import os, time\nos.mkdir('/dev/shm/improve-bomb-folder')\nfor i in range(150):\n    open(f'/dev/shm/improve-bomb-folder/{i // 10}', 'ab').write(b'x' * 20_000_000)\ntime.sleep(60)", ("memory", "OSError", "disk"), MEMORY | {"smoke_seconds": 15}),
    Bomb("memory_in_files_under_way", "import os, socket, time\nfirst, second = socket.socketpair()\nfor _ in range(8):\n    held = os.memfd_create('x')\n    for _ in range(10):\n        os.write(held, b'x' * 20_000_000)\n    socket.send_fds(first, [b'x'], [held])\n    os.close(held)\ntime.sleep(60)", ("memory", "disk"), {"memory_bytes": 900 * MB, "smoke_seconds": 10}),
    Bomb("memory_in_sockets", "import socket, time\nheld = []\nfor _ in range(4000):\n    for one in socket.socketpair():\n        one.setblocking(False)\n        held.append(one)\n        try:\n            while True:\n                one.send(b'x' * 60_000)\n        except OSError:\n            pass\ntime.sleep(60)", ("memory", "OSError"), {"memory_bytes": 900 * MB, "smoke_seconds": 10}),
    Bomb("many_files_in_shared_memory", "import os, time\nos.mkdir('/dev/shm/improve-bomb-files')\nfor i in range(20000):\n    open(f'/dev/shm/improve-bomb-files/{i}', 'wb').close()\ntime.sleep(60)", ("disk",), {"files": 5000, "smoke_seconds": 10}),
    Bomb("closed_work_directory", "import os\nos.chmod('.', 0)", ("", "disk", "PermissionError", "died")),
    Bomb("stack_with_an_endless_number", "import os\nos.unlink('stack.txt')\nopen('stack.txt', 'w').write('File \"pipeline.py\", line ' + '9' * 6000 + ' in f')\nwhile True:\n    pass", ("time",), TIME),
    Bomb("directories_without_end", "import os, time\nfor i in range(20000):\n    os.mkdir('d')\n    os.chdir('d')\ntime.sleep(3)", ("", "disk")),
    Bomb("deep_directories_in_tmp", "import os\nhere = os.getcwd()\nos.chdir(os.environ['TMPDIR'])\nfor i in range(995):\n    os.makedirs('d', exist_ok=True)\n    os.chdir('d')\nos.chdir(here)", ("", "disk")),
    Bomb("a_job_after_it", "pass", ("",)),
]  # fmt: skip

# Of these the watch sees nothing: the memory is the kernel's, in no process and in no file that one has open. Only a control group counts it.
UNSEEN = {"memory_in_files_under_way", "memory_in_sockets"}

# What honest training code does, and has to go on doing in every tier: {case: body}.
_WORKERS = """
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.arange(4096.0).reshape(512, 8), torch.arange(512))
loader = DataLoader(data, batch_size=64, num_workers=2, multiprocessing_context='CONTEXT', persistent_workers=True)
total = sum(int(labels.sum()) for _ in range(2) for _, labels in loader)
assert total == 2 * sum(range(512)), total
"""
HONEST = {
    "loader_workers_by_fork": _WORKERS.replace("CONTEXT", "fork"),
    "loader_workers_by_spawn": _WORKERS.replace("CONTEXT", "spawn"),
    "loader_workers_by_forkserver": _WORKERS.replace("CONTEXT", "forkserver"),
    "tensors_between_processes": """
import torch.multiprocessing as mp
context = mp.get_context('fork')
queue = context.Queue()
def send():
    queue.put(torch.ones(1000, 1000))
    import time
    time.sleep(1)
child = context.Process(target=send)
child.start()
assert queue.get().sum() == 1e6
child.join()
""",
    "pool_and_lock": """
import multiprocessing
with multiprocessing.get_context('fork').Pool(2) as pool:
    assert pool.map(abs, range(-50, 50))[0] == 50
""",
    "compiled_model": """
import shutil
if shutil.which('g++') or shutil.which('clang++'):
    compiled = torch.compile(torch.nn.Linear(8, 8))
    assert compiled(torch.ones(2, 8)).shape == (2, 8)
""",
    "temporary_files": """
import os, tempfile
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as file:
    open(folder + '/a', 'w').write('x')
    file.write(b'x')
open(os.path.expanduser('~/a file'), 'w').write('x')
""",
    "a_folder_of_its_own": "import os\nos.mkdir('notes')\nopen('notes/first.txt', 'x').close()",
    "copies_of_files": """
import shutil
open('one', 'w').write('x')
shutil.copy('one', 'two')
shutil.copytree('.', 'copied', ignore=lambda d, names: [n for n in names if n not in {'one', 'two'}])
shutil.rmtree('copied')
""",
    "programs_and_threads": """
import concurrent.futures, getpass, socket, subprocess
assert subprocess.run(['sh', '-c', 'echo hello'], capture_output=True, text=True).stdout == 'hello\\n'
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert sum(pool.map(int, '123')) == 6
assert getpass.getuser() == 'sandbox' and socket.gethostname()
""",
}

# Run while a trained model predicts; what the job then leaves in work/ has to be refused by the reader, with a reason.
FORGERIES = {
    "link_to_the_labels": "os.symlink(LABELS, 'validation.npy')",
    "magic_link": "np.save('x.npy', np.full((20, 2), 0.5, np.float32))\nos.symlink('/proc/self/fd/0', 'validation.npy')",
    "named_pipe": "os.mkfifo('validation.npy')",
    "directory": "os.mkdir('validation.npy')",
    "directory_without_rights": "os.mkdir('validation.npy', 0)",
    "file_without_rights": "os.close(os.open('validation.npy', os.O_CREAT | os.O_WRONLY, 0))",
    "link_to_itself": "os.symlink('validation.npy', 'validation.npy')",
    "socket": "import socket\nsocket.socket(socket.AF_UNIX).bind('validation.npy')",
    "sparse_half_gigabyte": "open('validation.npy', 'wb').truncate(2**29)",
    "pickle": "np.save('validation.npy', np.array([{'a': 1}] * 20, dtype=object), allow_pickle=True)",
    "header_bomb": "open('validation.npy', 'wb').write(b'\\x93NUMPY\\x02\\x00' + (2**31).to_bytes(4, 'little') + b'x' * 100)",
    "header_that_computes": "open('validation.npy', 'wb').write(b'\\x93NUMPY\\x01\\x00v\\x00' + b\"{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9, 2), }\".ljust(118))",
    "header_that_is_no_python": "open('validation.npy', 'wb').write(b\"\\x93NUMPY\\x01\\x00\\x0b\\x00{'descr': (\" + bytes(160))",
    "tar_with_a_way_out": "import io, tarfile\nwith tarfile.open('validation.npy', 'w') as f:\n    f.addfile(tarfile.TarInfo('../../owned'), io.BytesIO())",
    "zip_of_arrays": "with open('validation.npy', 'wb') as f:\n    np.savez(f, np.full((20, 2), 0.5, np.float32))",
    "nan": "np.save('validation.npy', np.full((20, 2), np.nan, np.float32))",
    "infinite": "np.save('validation.npy', np.full((20, 2), np.inf, np.float32))",
    "a_row_missing": "np.save('validation.npy', np.full((19, 2), 0.5, np.float32))",
    "a_row_more": "np.save('validation.npy', np.full((21, 2), 0.5, np.float32))",
    "not_probabilities": "np.save('validation.npy', np.full((20, 2), 3.0, np.float32))",
    "negative": "np.save('validation.npy', np.tile(np.array([[-1, 2]], np.float32), (20, 1)))",
    "whole_numbers": "np.save('validation.npy', np.ones((20, 2), np.int64))",
    "cut_short": "np.save('validation.npy', np.full((20, 2), 0.5, np.float32))\nos.truncate('validation.npy', 200)",
    "written_before_training_only": "",
}
