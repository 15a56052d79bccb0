"""Manners in a host, read from the sources: nothing in src/ or capi/ prints, exits, aborts, installs signal handlers, touches
the locale, the environment or the floating-point state by library calls, starts threads, or uses hidden global generators."""
import re

from rule import accepted, files, finish, noticed

FORBIDDEN = {
    "prints": r"\b(?:printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|perror|psignal|syslog)\s*\(|\bstd::(?:cout|cerr|clog|print)\b"
              r"|#\s*include\s*<(?:iostream|print)>|\bstd(?:out|err)\b",
    "reads the terminal": r"\b(?:getchar|gets|scanf)\s*\(|\bstd::cin\b|\bstdin\b",
    "ends the process": r"\b(?:exit|_exit|_Exit|quick_exit|abort|atexit|at_quick_exit)\s*\(|\bstd::terminate\b|\bassert\s*\(|\b__builtin_trap\b",
    "touches signals": r"\b(?:signal|sigaction|raise|kill|sigprocmask|pthread_sigmask|alarm|setitimer|longjmp|siglongjmp)\s*\(",
    "touches the locale": r"\b(?:setlocale|uselocale|newlocale)\s*\(|\blocale::global\b",
    "touches the environment": r"\b(?:setenv|unsetenv|putenv|clearenv|chdir|umask)\s*\(",
    "reads the environment": r"\b(?:getenv|secure_getenv)\s*\(",
    "sets the floating-point state": r"\b(?:fesetround|fesetenv|feholdexcept|feenableexcept|feupdateenv)\s*\(|#\s*include\s*<(?:cfenv|fenv\.h)>",
    "starts threads": r"\bstd::(?:thread|jthread|async)\b|\bpthread_create\s*\(|#\s*pragma\s+omp\b",
    "uses a hidden generator": r"\b(?:rand|srand|drand48)\s*\(|\bstd::random_device\b",
}
# The one look at the environment: LAMINA_ISA.
ALLOWED = {("src/kernels/dispatch.cpp", "reads the environment")}
TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def code(text):
    """The text with comments and literals blanked, lines kept."""
    def blank(match):
        return match.group(0)[0] + "\n" * match.group(0).count("\n")

    return TOKENS.sub(blank, text)


def violations(sources):
    found = []
    for path, text in sources:
        for number, line in enumerate(code(text).split("\n"), 1):
            for what, pattern in FORBIDDEN.items():
                if re.search(pattern, line) and (path, what) not in ALLOWED:
                    found.append(f"{path}:{number}: {what}: {line.strip()}")
    return found


def self_check():
    def one(line, path="src/base/a.cpp"):
        return violations([(path, f"// exit(1)\n{line}\n")])

    for line in ['std::printf("x");', 'std::cerr << "x";', "#include <iostream>", "exit(1);", "std::abort();", "assert(x);",
                 "std::signal(SIGINT, f);", 'setlocale(LC_ALL, "");', 'setenv("A", "b", 1);', 'std::getenv("A");',
                 "std::fesetround(FE_UPWARD);", "std::thread t(f);", "#pragma omp parallel", "srand(1);", "fputs(s, stderr);"]:
        noticed(one(line), line)
    noticed(one('const char* s = "//"; exit(1);'), "a call after a literal that looks like a comment")
    noticed(one("/* a\n b */ exit(1);"), "a call after a comment")
    for line in ["// std::printf", 'const char* s = "exit(1)";', "/* abort() */", "static_assert(true);", "trainer->stop();"]:
        accepted(one(line), line)
    accepted(one('std::getenv("LAMINA_ISA");', "src/kernels/dispatch.cpp"), "the one look at the environment")


self_check()
tree = files(["src", "capi"], {".cpp", ".hpp", ".c", ".h", ".in"})
finish(violations(tree), len(tree))
