//! Tests of the web pages in a real browser, which scripts/browser runs. A package of its own, which `scripts/test` leaves out: the driver's library turns
//! on a feature of serde_json that makes maps dearer, and would do so in every other test of the same build.
