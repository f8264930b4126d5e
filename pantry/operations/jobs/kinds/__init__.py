"""The kinds of job, one file each: its `KIND` says how such a job runs. Other distributions may add more."""
