"""The R, Julia and Python packages: each built against the library of build/, as its users would install it, and tested."""


def install(report):
    pass


def r_package(report):
    report.skip("r", "bindings/r does not exist")


def julia_package(report):
    report.skip("julia", "bindings/julia does not exist")


def python_package(report):
    report.skip("python", "bindings/python does not exist")
