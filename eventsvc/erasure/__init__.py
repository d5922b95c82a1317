"""What must go goes, and what must stay stays: erasures, retention rules, holds, purging."""
