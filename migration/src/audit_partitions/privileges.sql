-- Gives a table the owner and the privileges of another, and no others.
CREATE FUNCTION carry_audit_privileges(giver regclass, taker regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    holder oid := (SELECT relowner FROM pg_class WHERE oid = giver);
    entry record;
BEGIN
    IF holder <> (SELECT relowner FROM pg_class WHERE oid = taker) THEN
        EXECUTE format('ALTER TABLE %s OWNER TO %I', taker, pg_get_userbyid(holder));
    END IF;
    -- Default privileges may have given some to the new table.
    FOR entry IN
        SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl) WHERE oid = taker
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', taker,
            CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(entry.grantee)) END);
    END LOOP;
    FOR entry IN
        SELECT privilege_type AS privilege, '' AS of_column, grantee, is_grantable
        FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
        -- Where both have none of their own, the owner's need not be written down.
        WHERE oid = giver AND EXISTS (SELECT FROM pg_class WHERE oid IN (giver, taker) AND relacl IS NOT NULL)
        UNION ALL
        SELECT privilege_type, format('(%I)', attname), grantee, is_grantable
        FROM pg_attribute, aclexplode(attacl) WHERE attrelid = giver AND NOT attisdropped
    LOOP
        EXECUTE format('GRANT %s %s ON %s TO %s %s', entry.privilege, entry.of_column, taker,
            CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(entry.grantee)) END,
            CASE WHEN entry.is_grantable AND entry.grantee <> 0 THEN 'WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END
$$;
