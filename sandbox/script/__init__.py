"""The parts of the script that a job runs and a person takes home: ordinary modules here, inlined by sandbox.assemble."""
