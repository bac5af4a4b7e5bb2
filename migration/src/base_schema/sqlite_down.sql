DROP TABLE audit_feed;
DROP TABLE audit_logs;
DROP TABLE recordings;
DROP TABLE room_participants;
DROP TABLE media_nodes;
DROP TABLE rooms;
DROP TABLE auth_providers;
DROP TABLE users;
