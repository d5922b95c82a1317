-- Views of the page that are kept for everybody: a name, and the address that shows them.
CREATE TABLE saved_view (
    name     text PRIMARY KEY,
    address  text NOT NULL,
    saved_by text NOT NULL,
    saved_at timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
